//! What links do, as data, and how a person's words change it. Pure.
//!
//! A link joins two nodes; it may be cut one way, all else it does both ways.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// A link is slowed down by so much at most, in milliseconds.
const DELAY_MS_MAX: u32 = 60_000;

/// What a link does to what passes. The default does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    /// Nothing passes there, and nobody is told,
    pub(super) cut_there: bool,
    /// or nothing back.
    pub(super) cut_back: bool,
    /// What passes is late by so much,
    pub(super) delay_ms: u32,
    /// give or take so much.
    pub(super) jitter_ms: u32,
    /// So many of a thousand packets are lost.
    pub(super) lost_per_mille: u32,
}

/// A person's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Cuts each link between one side and the other, or all others; `one_way`, what the first
    /// says to the second.
    Partition { side: Vec<u16>, other: Option<Vec<u16>>, one_way: bool },
    /// Slows all links of these nodes down.
    Slow { nodes: Vec<u16>, delay_ms: u32, jitter_ms: u32 },
    /// Loses packets on all links of these nodes, or on all links.
    Drop { nodes: Option<Vec<u16>>, lost_per_mille: u32 },
    /// Makes all links of these nodes whole, or all links.
    Heal { nodes: Option<Vec<u16>> },
}

/// The links of a cluster that do something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Rises with each change.
    pub(super) generation: u64,
    /// By their nodes, the lower first.
    links: BTreeMap<(u16, u16), Fault>,
}

impl Fault {
    /// The link as it is from its other end.
    pub(super) fn turned(self) -> Self {
        Self { cut_there: self.cut_back, cut_back: self.cut_there, ..self }
    }
}

impl Faults {
    /// What the link from one node to another does.
    pub(super) fn of(&self, one: u16, other: u16) -> Fault {
        let link = self.links.get(&(one.min(other), one.max(other))).copied().unwrap_or_default();
        if one <= other { link } else { link.turned() }
    }

    /// Changes the links of a cluster of so many nodes.
    pub(super) fn change(&mut self, change: &Change, nodes: u16) -> Result<()> {
        let named = match change {
            Change::Partition { side, other, .. } => {
                let other = other.as_deref().unwrap_or_default();
                if side.iter().any(|node| other.contains(node)) {
                    return Err(Error::Usage("a node can't be on both sides".into()));
                }
                [side, other].concat()
            }
            Change::Slow { nodes, .. } => nodes.clone(),
            Change::Drop { nodes, .. } | Change::Heal { nodes } => {
                nodes.clone().unwrap_or_default()
            }
        };
        if let Some(node) = named.iter().find(|node| !(1..=nodes).contains(node)) {
            return Err(Error::Usage(format!("there is no node {node}; there are {nodes}")));
        }
        for one in 1..=nodes {
            for other in one + 1..=nodes {
                let link = self.links.entry((one, other)).or_default();
                change.apply(link, one, other);
            }
        }
        self.links.retain(|_, fault| *fault != Fault::default());
        self.generation += 1;
        Ok(())
    }

    /// Each link that does something, in words.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |((one, other), fault): (&(u16, u16), &Fault)| {
            let mut does = Vec::new();
            match (fault.cut_there, fault.cut_back) {
                (true, true) => does.push("cut".to_owned()),
                (true, false) => does.push(format!("n{other} hears nothing of n{one}")),
                (false, true) => does.push(format!("n{one} hears nothing of n{other}")),
                (false, false) => {}
            }
            if fault.delay_ms > 0 || fault.jitter_ms > 0 {
                does.push(format!("slow by {}±{} ms each way", fault.delay_ms, fault.jitter_ms));
            }
            if fault.lost_per_mille > 0 {
                let (whole, part) = (fault.lost_per_mille / 10, fault.lost_per_mille % 10);
                does.push(format!("loses {whole}.{part} % of packets"));
            }
            format!("n{one} - n{other}: {}", does.join(", "))
        };
        self.links.iter().map(line).collect()
    }

    pub(crate) fn to_json(&self) -> Value {
        let links: Vec<Value> = self
            .links
            .iter()
            .map(|((one, other), fault)| {
                json!({
                    "between": [one, other], "cut_there": fault.cut_there,
                    "cut_back": fault.cut_back, "delay_ms": fault.delay_ms,
                    "jitter_ms": fault.jitter_ms, "lost_per_mille": fault.lost_per_mille,
                })
            })
            .collect();
        json!({ "generation": self.generation, "links": links })
    }

    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let links = value.get("links")?.as_array()?.iter().map(|link| {
            let number = |key: &str| u32::try_from(link.get(key)?.as_u64()?).ok();
            let node =
                |place: usize| u16::try_from(link.get("between")?.get(place)?.as_u64()?).ok();
            let fault = Fault {
                cut_there: link.get("cut_there")?.as_bool()?,
                cut_back: link.get("cut_back")?.as_bool()?,
                delay_ms: number("delay_ms")?,
                jitter_ms: number("jitter_ms")?,
                lost_per_mille: number("lost_per_mille")?,
            };
            Some(((node(0)?, node(1)?), fault))
        });
        let generation = value.get("generation")?.as_u64()?;
        Some(Self { generation, links: links.collect::<Option<_>>()? })
    }
}

impl Change {
    fn apply(&self, link: &mut Fault, one: u16, other: u16) {
        let touches = |nodes: &[u16]| nodes.contains(&one) || nodes.contains(&other);
        match self {
            Self::Partition { side, other: far, one_way } => {
                let is_far = |node: u16| match far {
                    Some(far) => far.contains(&node),
                    None => !side.contains(&node),
                };
                let across = |near: u16, node: u16| side.contains(&near) && is_far(node);
                let (there, back) = (across(one, other), across(other, one));
                link.cut_there |= there || back && !one_way;
                link.cut_back |= back || there && !one_way;
            }
            Self::Slow { nodes, delay_ms, jitter_ms } if touches(nodes) => {
                (link.delay_ms, link.jitter_ms) = (*delay_ms, *jitter_ms);
            }
            Self::Drop { nodes, lost_per_mille } if nodes.as_deref().is_none_or(touches) => {
                link.lost_per_mille = *lost_per_mille;
            }
            Self::Heal { nodes } if nodes.as_deref().is_none_or(touches) => {
                *link = Fault::default();
            }
            _ => {}
        }
    }

    /// The wish that a verb and its words say.
    pub(crate) fn parse(verb: &str, words: &[String]) -> Result<Self> {
        // The slash between two sides is for people.
        let words: Vec<&str> =
            words.iter().map(String::as_str).filter(|word| *word != "/").collect();
        match (verb, words.as_slice()) {
            ("partition", [side]) => {
                Ok(Self::Partition { side: nodes(side)?, other: None, one_way: false })
            }
            ("partition", [side, other]) => {
                let (side, other) = (nodes(side)?, Some(nodes(other)?));
                Ok(Self::Partition { side, other, one_way: false })
            }
            ("partition", [side, "to", other]) => {
                let (side, other) = (nodes(side)?, Some(nodes(other)?));
                Ok(Self::Partition { side, other, one_way: true })
            }
            ("slow", [of, by]) => {
                let (delay_ms, jitter_ms) = delay(by)?;
                Ok(Self::Slow { nodes: nodes(of)?, delay_ms, jitter_ms })
            }
            ("drop", [part]) => Ok(Self::Drop { nodes: None, lost_per_mille: percent(part)? }),
            ("drop", [part, of] | [of, part]) if part.ends_with('%') => {
                Ok(Self::Drop { nodes: Some(nodes(of)?), lost_per_mille: percent(part)? })
            }
            ("drop", [of, part]) => {
                Ok(Self::Drop { nodes: Some(nodes(of)?), lost_per_mille: percent(part)? })
            }
            ("heal", []) => Ok(Self::Heal { nodes: None }),
            ("heal", [of]) => Ok(Self::Heal { nodes: Some(nodes(of)?) }),
            (verb, _) => Err(Error::Usage(format!(
                "`cluster {verb}` is written so: {}",
                match verb {
                    "partition" => {
                        "cluster partition 1,2 / 3, or cluster partition 3, or one way, cluster \
                         partition 1 to 2"
                    }
                    "slow" => "cluster slow 2 50ms, or cluster slow 2 50ms±10",
                    "drop" => "cluster drop 5%, or cluster drop 5% 2",
                    _ => "cluster heal, or cluster heal 2",
                }
            ))),
        }
    }
}

/// `1,2` or `n1,n2`.
fn nodes(list: &str) -> Result<Vec<u16>> {
    let number = |word: &str| word.trim_start_matches('n').parse::<u16>().ok().filter(|n| *n > 0);
    let all: Option<BTreeSet<u16>> = list.split(',').map(number).collect();
    all.map(|all| all.into_iter().collect())
        .ok_or_else(|| Error::Usage(format!("`{list}` names no nodes; write 1,2 or n1,n2")))
}

/// `50ms`, `50ms±10`, `50+-10`, `1s`.
fn delay(text: &str) -> Result<(u32, u32)> {
    let (delay, jitter) =
        text.split_once('±').or_else(|| text.split_once("+-")).unwrap_or((text, "0"));
    let ms = |word: &str| match word.strip_suffix("ms") {
        Some(number) => number.parse::<u32>().ok(),
        None => match word.strip_suffix('s') {
            Some(number) => number.parse::<u32>().ok()?.checked_mul(1_000),
            None => word.parse().ok(),
        },
    };
    match (ms(delay.trim()), ms(jitter.trim())) {
        (Some(delay), Some(jitter)) if delay <= DELAY_MS_MAX && jitter <= delay => {
            Ok((delay, jitter))
        }
        _ => Err(Error::Usage(format!(
            "`{text}` is no delay; write 50ms or 50ms±10: at most {DELAY_MS_MAX} ms, give or take \
             at most as much"
        ))),
    }
}

/// `5%`, `0.5%`.
fn percent(text: &str) -> Result<u32> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let part = (part.len() == 1).then(|| part.parse::<u32>().ok()).flatten();
    match (whole.parse::<u32>().ok(), part) {
        (Some(whole), Some(part)) if whole < 100 => Ok(whole * 10 + part),
        _ => Err(Error::Usage(format!("`{text}` is no part; write 5% or 0.5%, below 100%"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(line: &str) -> Result<Change> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Change::parse(&words[0], &words[1..])
    }

    fn after(lines: &[&str], nodes: u16) -> Vec<String> {
        let mut faults = Faults::default();
        for line in lines {
            faults.change(&change(line).unwrap(), nodes).unwrap();
        }
        assert_eq!(faults.generation, lines.len() as u64);
        assert_eq!(Faults::from_json(&faults.to_json()), Some(faults.clone()));
        faults.lines()
    }

    #[test]
    fn words_say_what_links_do() {
        for (lines, nodes, told) in [
            (&["partition 1,2 / 3"][..], 3, &["n1 - n3: cut", "n2 - n3: cut"][..]),
            (&["partition n3"], 3, &["n1 - n3: cut", "n2 - n3: cut"]),
            (&["partition 1 2"], 4, &["n1 - n2: cut"]),
            (&["partition 1 to 2"], 3, &["n1 - n2: n2 hears nothing of n1"]),
            (&["partition 2 to 1"], 3, &["n1 - n2: n1 hears nothing of n2"]),
            (
                &["partition 2 to 1", "partition 1 to 2,3"],
                3,
                &["n1 - n2: cut", "n1 - n3: n3 hears nothing of n1"],
            ),
            (
                &["slow n2 50ms±10"],
                3,
                &["n1 - n2: slow by 50±10 ms each way", "n2 - n3: slow by 50±10 ms each way"],
            ),
            (&["slow 1 1s", "slow 2 20+-5"], 2, &["n1 - n2: slow by 20±5 ms each way"]),
            (&["drop 5%"], 2, &["n1 - n2: loses 5.0 % of packets"]),
            (&["drop 0.5% 1", "partition 1"], 2, &["n1 - n2: cut, loses 0.5 % of packets"]),
            (
                &["drop 3 2%"],
                3,
                &["n1 - n3: loses 2.0 % of packets", "n2 - n3: loses 2.0 % of packets"],
            ),
            (&["partition 1,2 3", "heal 1"], 3, &["n2 - n3: cut"]),
            (&["partition 1,2 3", "slow 1 5", "heal"], 3, &[]),
            (&["slow 1 5ms", "slow 1 0"], 3, &[]),
        ] {
            assert_eq!(after(lines, nodes), told, "{lines:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for line in [
            "partition",
            "partition 1 2 3",
            "partition 1 to",
            "partition 1 at 2",
            "partition x",
            "partition 0",
            "slow 1",
            "slow 1 fast",
            "slow 1 10ms±20",
            "slow 1 100s",
            "drop",
            "drop 100%",
            "drop 1.25%",
            "heal 1 2",
        ] {
            let error = change(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}: {error}");
        }
        let mut faults = Faults::default();
        assert!(faults.change(&change("partition 4").unwrap(), 3).is_err(), "there are three");
        assert!(faults.change(&change("partition 1,2 2").unwrap(), 3).is_err(), "both sides");
        assert_eq!(faults, Faults::default(), "nothing was changed");
    }
}
