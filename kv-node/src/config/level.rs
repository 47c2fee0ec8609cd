//! How many copies, as settings say it: a word, or a number as number or text.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

use crate::cluster::record::LevelSetting;

const EXPECTED: &str = "expected `one`, `quorum`, `all`, `local-quorum`, `each-quorum` or a number \
                        from 1 to 255";

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(super) fn serialize<S: Serializer>(level: &LevelSetting, to: S) -> Result<S::Ok, S::Error> {
    match level {
        LevelSetting::One => to.serialize_str("one"),
        LevelSetting::Quorum => to.serialize_str("quorum"),
        LevelSetting::All => to.serialize_str("all"),
        LevelSetting::Copies(copies) => to.serialize_u8(*copies),
        LevelSetting::LocalQuorum => to.serialize_str("local-quorum"),
        LevelSetting::EachQuorum => to.serialize_str("each-quorum"),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<LevelSetting, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Raw {
        Number(u8),
        Word(String),
    }
    let bad = || D::Error::custom(EXPECTED);
    let level = match Raw::deserialize(from).map_err(|_| bad())? {
        Raw::Number(copies) => LevelSetting::Copies(copies),
        Raw::Word(word) => match word.as_str() {
            "one" => LevelSetting::One,
            "quorum" => LevelSetting::Quorum,
            "all" => LevelSetting::All,
            "local-quorum" => LevelSetting::LocalQuorum,
            "each-quorum" => LevelSetting::EachQuorum,
            number => LevelSetting::Copies(number.parse().map_err(|_| bad())?),
        },
    };
    if level == LevelSetting::Copies(0) { Err(bad()) } else { Ok(level) }
}
