//! What happened, a line each: every fault, every commit, every header. The same seed writes the same lines.

/// Lines that are shown of a run that failed.
pub const SHOWN: usize = 60;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    lines: Vec<String>,
}

impl Trace {
    pub fn note(&mut self, now_ms: u64, line: &str) {
        self.lines.push(format!("{now_ms:>10} {line}"));
    }

    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The last lines, for a reader.
    pub fn tail(&self, shown: usize) -> String {
        let skipped = self.lines.len().saturating_sub(shown);
        format!("… {skipped} lines before\n{}", self.lines[skipped..].join("\n"))
    }

    /// Where two runs part: the number of the line, and what each says there. `None`: nowhere.
    pub fn parts_from<'a>(&'a self, other: &'a Self) -> Option<(usize, &'a str, &'a str)> {
        let lines = self.lines.len().max(other.lines.len());
        let at = |trace: &'a Self, line: usize| trace.lines.get(line).map_or("(the end)", String::as_str);
        (0..lines).map(|line| (line, at(self, line), at(other, line))).find(|(_, here, there)| here != there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_found() {
        let (mut one, mut other) = (Trace::default(), Trace::default());
        (0..100).for_each(|line| one.note(line, "same"));
        (0..100).for_each(|line| other.note(line, if line == 70 { "other" } else { "same" }));
        assert_eq!(one.parts_from(&one), None);
        assert_eq!(one.parts_from(&other).map(|(line, ..)| line), Some(70));
        assert_eq!(one.tail(SHOWN).lines().count(), SHOWN + 1);
        other.lines.truncate(3);
        assert_eq!(one.parts_from(&other), Some((3, "         3 same", "(the end)")));
    }
}
