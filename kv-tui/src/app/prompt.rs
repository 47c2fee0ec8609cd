//! A line, or several, that a person types.

use crossterm::event::{KeyCode, KeyModifiers};

use super::{Asked, Pressed};

/// Characters that are taken at most: a value that is longer is better written by a program.
pub(super) const CHARS_MAX: usize = 64 * 1_024;

/// What the line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptKind {
    /// A key to look up.
    Key,
    /// A filter of the tab's lines.
    Filter,
    /// A command.
    Command,
    /// A value to be written: several lines, ended by ctrl-s.
    Value,
    /// The autoscaler's mode.
    Mode,
    /// The epoch whose change is to be called off.
    Abort(u64),
    /// The node that something is to be done to.
    Node(Asked),
}

/// Text that is being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What for.
    pub kind: PromptKind,
    chars: Vec<char>,
    /// Where the next character goes.
    cursor: usize,
}

/// What a key came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    More,
    Done,
    Left,
}

impl Prompt {
    /// A line that begins with a text.
    pub fn new(kind: PromptKind, text: &str) -> Self {
        let chars: Vec<char> = text.chars().take(CHARS_MAX).collect();
        Self { kind, cursor: chars.len(), chars }
    }

    /// The text.
    pub fn text(&self) -> String {
        self.chars.iter().collect()
    }

    /// The text before the cursor, and that from it on.
    pub fn halves(&self) -> (String, String) {
        let (before, after) = self.chars.split_at(self.cursor.min(self.chars.len()));
        (before.iter().collect(), after.iter().collect())
    }

    /// Takes pasted text: of several lines, all for a value, and the first for anything else.
    pub(super) fn paste(&mut self, text: &str) {
        let many = self.kind == PromptKind::Value;
        for char in text.chars().take_while(|char| many || *char != '\n') {
            // What a terminal sends between lines of a paste.
            self.insert(if char == '\r' { '\n' } else { char });
        }
    }

    pub(super) fn press(&mut self, pressed: Pressed) -> Typed {
        let held = |modifier| pressed.modifiers.contains(modifier);
        if held(KeyModifiers::CONTROL) {
            return self.press_control(pressed.code);
        }
        match pressed.code {
            KeyCode::Esc => return Typed::Left,
            KeyCode::Enter if self.kind == PromptKind::Value => self.insert('\n'),
            KeyCode::Enter => return Typed::Done,
            KeyCode::Char(char) if !held(KeyModifiers::ALT) => self.insert(char),
            KeyCode::Backspace => {
                if let Some(before) = self.cursor.checked_sub(1) {
                    self.cursor = before;
                    self.chars.remove(before);
                }
            }
            KeyCode::Delete if self.cursor < self.chars.len() => {
                self.chars.remove(self.cursor);
            }
            KeyCode::Left => self.cursor = self.cursor.saturating_sub(1),
            KeyCode::Right => self.cursor = (self.cursor + 1).min(self.chars.len()),
            KeyCode::Home => self.cursor = self.line_start(self.cursor),
            KeyCode::End => self.cursor = self.line_end(self.cursor),
            KeyCode::Up => self.step_line(false),
            KeyCode::Down => self.step_line(true),
            _ => {}
        }
        Typed::More
    }

    fn press_control(&mut self, code: KeyCode) -> Typed {
        match code {
            KeyCode::Char('c') => return Typed::Left,
            KeyCode::Char('s') => return Typed::Done,
            KeyCode::Char('a') => self.cursor = self.line_start(self.cursor),
            KeyCode::Char('e') => self.cursor = self.line_end(self.cursor),
            KeyCode::Char('u') => {
                let start = self.line_start(self.cursor);
                self.chars.drain(start..self.cursor);
                self.cursor = start;
            }
            KeyCode::Char('k') => {
                let end = self.line_end(self.cursor);
                self.chars.drain(self.cursor..end);
            }
            KeyCode::Char('w') => {
                let before = self.chars.get(..self.cursor).unwrap_or_default();
                let word = before.iter().rev().skip_while(|char| char.is_whitespace());
                let kept = before.len()
                    - before.iter().rev().take_while(|char| char.is_whitespace()).count()
                    - word.take_while(|char| !char.is_whitespace()).count();
                self.chars.drain(kept..self.cursor);
                self.cursor = kept;
            }
            _ => {}
        }
        Typed::More
    }

    fn insert(&mut self, char: char) {
        if self.chars.len() < CHARS_MAX {
            self.chars.insert(self.cursor.min(self.chars.len()), char);
            self.cursor += 1;
        }
    }

    fn line_start(&self, at: usize) -> usize {
        let before = self.chars.get(..at).unwrap_or_default();
        before.iter().rposition(|char| *char == '\n').map_or(0, |end| end + 1)
    }

    fn line_end(&self, at: usize) -> usize {
        let after = self.chars.get(at..).unwrap_or_default();
        after.iter().position(|char| *char == '\n').map_or(self.chars.len(), |length| at + length)
    }

    fn step_line(&mut self, down: bool) {
        let start = self.line_start(self.cursor);
        let column = self.cursor - start;
        let target = if down {
            Some(self.line_end(self.cursor) + 1).filter(|next| *next <= self.chars.len())
        } else {
            start.checked_sub(1).map(|end| self.line_start(end))
        };
        if let Some(target) = target {
            self.cursor = (target + column).min(self.line_end(target));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(prompt: &mut Prompt, code: KeyCode) -> Typed {
        prompt.press(Pressed::plain(code))
    }

    fn control(prompt: &mut Prompt, char: char) {
        let modifiers = KeyModifiers::CONTROL;
        prompt.press(Pressed { code: KeyCode::Char(char), modifiers });
    }

    #[test]
    fn a_line_is_typed_and_corrected() {
        let mut prompt = Prompt::new(PromptKind::Key, "usr");
        press(&mut prompt, KeyCode::Left);
        press(&mut prompt, KeyCode::Char('e'));
        press(&mut prompt, KeyCode::End);
        press(&mut prompt, KeyCode::Char('é'));
        press(&mut prompt, KeyCode::Backspace);
        assert_eq!(prompt.halves(), ("user".to_owned(), String::new()));
        assert_eq!(press(&mut prompt, KeyCode::Enter), Typed::Done);
        assert_eq!(press(&mut prompt, KeyCode::Esc), Typed::Left);
        control(&mut prompt, 'u');
        assert_eq!(prompt.text(), "");
        prompt.paste("two words \nand a line");
        control(&mut prompt, 'w');
        assert_eq!(prompt.text(), "two ");
    }

    #[test]
    fn a_value_has_lines() {
        let mut prompt = Prompt::new(PromptKind::Value, "one\nthree");
        press(&mut prompt, KeyCode::Up);
        assert_eq!(prompt.halves().0, "one");
        press(&mut prompt, KeyCode::Enter);
        prompt.paste("two");
        assert_eq!(prompt.text(), "one\ntwo\nthree");
        press(&mut prompt, KeyCode::Home);
        control(&mut prompt, 'k');
        press(&mut prompt, KeyCode::Delete);
        assert_eq!(prompt.text(), "one\nthree");
        press(&mut prompt, KeyCode::Down);
        assert_eq!(prompt.halves().0, "one\nthree".get(..4).unwrap_or_default());
    }
}
