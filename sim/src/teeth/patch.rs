//! Patches as text: what a sabotage changes, put into a tree that may have moved on since.
//!
//! The format is that of `git diff` behind a few header lines, so that a patch can be made, read and applied with
//! ordinary tools. Applying is patient: a hunk is looked for near the line that it names, and if its context has changed
//! at the edges, up to two lines of that are left out on either side.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Lines of context that may have changed at either end of a hunk.
const FUZZ: usize = 2;
/// Lines of context that a refreshed hunk has at either end.
const CONTEXT: usize = 2;

/// The files of a tree, by path.
pub type Files = BTreeMap<String, String>;

/// One patch file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Its header: `Key: value`, in the order of the file.
    pub header: Vec<(String, String)>,
    changes: Vec<Change>,
}

/// What happens to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    path: String,
    is_new: bool,
    hunks: Vec<Hunk>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hunk {
    /// Lines of the old file before it.
    at: usize,
    lines: Vec<(Op, String)>,
    /// How many lines of the old and of the new file it has, by its own words.
    announced: (usize, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Keep,
    Remove,
    Add,
}

/// Where a hunk belongs in a file as it is.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    /// Lines of context left out at its beginning and at its end.
    left_out: (usize, usize),
}

impl Patch {
    /// Reads a patch.
    ///
    /// # Errors
    /// What is wrong with it, and in which line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut patch = Self { header: Vec::new(), changes: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            patch.line(line).map_err(|problem| format!("line {}: {problem}", number + 1))?;
        }
        if patch.changes.is_empty() {
            return Err("it changes nothing".to_owned());
        }
        Ok(patch)
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(path) = line.strip_prefix("--- ") {
            let is_new = path.trim() == "/dev/null";
            self.changes.push(Change { path: String::new(), is_new, hunks: Vec::new() });
            return Ok(());
        }
        let Some(change) = self.changes.last_mut() else { return self.header_line(line) };
        if let Some(path) = line.strip_prefix("+++ ") {
            let path = path.trim();
            change.path = path.strip_prefix("b/").unwrap_or(path).to_owned();
            return Ok(());
        }
        if let Some(ranges) = line.strip_prefix("@@ -") {
            let (at, old, new) = ranges_of(ranges).ok_or("a hunk does not say where it is")?;
            change.hunks.push(Hunk { at, lines: Vec::new(), announced: (old, new) });
            return Ok(());
        }
        if line.starts_with("diff ") || line.starts_with("index ") || line.starts_with("new file ") {
            return Ok(());
        }
        let hunk = change.hunks.last_mut().ok_or("a line outside of any hunk")?;
        let op = match line.chars().next() {
            // Between two files; or an editor has taken the blank off an empty line of context.
            None if (hunk.count(Op::Add), hunk.count(Op::Remove)) == hunk.announced => return Ok(()),
            Some(' ') | None => Op::Keep,
            Some('-') => Op::Remove,
            Some('+') => Op::Add,
            Some('\\') => return Ok(()),
            Some(_) => return Err(format!("`{line}` is no line of a hunk")),
        };
        hunk.lines.push((op, line.get(1..).unwrap_or_default().to_owned()));
        Ok(())
    }

    fn header_line(&mut self, line: &str) -> Result<(), String> {
        if line.starts_with("diff ") || line.starts_with("index ") || line.starts_with("new file ") || line.is_empty() {
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix(' ') {
            let (_, value) = self.header.last_mut().ok_or("a header goes on that has not begun")?;
            value.push(' ');
            value.push_str(rest.trim());
            return Ok(());
        }
        let (key, value) = line.split_once(':').ok_or_else(|| format!("`{line}` is no header"))?;
        self.header.push((key.trim().to_owned(), value.trim().to_owned()));
        Ok(())
    }

    /// The value of a header.
    pub fn header(&self, key: &str) -> Option<&str> {
        self.header.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The files it changes.
    #[cfg(test)]
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.changes.iter().map(|change| change.path.as_str())
    }

    /// Changes `files`.
    ///
    /// # Errors
    /// Which hunks find no place. What could be changed is changed.
    pub fn apply(&self, files: &mut Files) -> Result<(), String> {
        let mut lost = Vec::new();
        for change in &self.changes {
            let (before, missing) = (files.get(&change.path), format!("{} is not there", change.path));
            let Some(before) = before.map(String::as_str).or(change.is_new.then_some("")) else {
                lost.push(missing);
                continue;
            };
            let mut lines: Vec<String> = before.lines().map(str::to_owned).collect();
            let mut moved = 0isize;
            for hunk in &change.hunks {
                match hunk.find(&lines, hunk.at.saturating_add_signed(moved)) {
                    Some(place) => moved = hunk.put(&mut lines, place),
                    None => lost.push(hunk.describe(&change.path)),
                }
            }
            lines.push(String::new());
            files.insert(change.path.clone(), lines.join("\n"));
        }
        if lost.is_empty() { Ok(()) } else { Err(lost.join("\n")) }
    }

    /// The same patch with line numbers and context as `files` have them.
    ///
    /// # Errors
    /// Which hunks find no place.
    pub fn refreshed(&self, files: &Files) -> Result<Self, String> {
        let mut fresh = self.clone();
        for change in &mut fresh.changes {
            if change.is_new {
                continue;
            }
            let text = files.get(&change.path).ok_or_else(|| format!("{} is not there", change.path))?;
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            for hunk in &mut change.hunks {
                let place = hunk.find(&lines, hunk.at).ok_or_else(|| hunk.describe(&change.path))?;
                *hunk = hunk.with_context_of(&lines, place);
            }
        }
        Ok(fresh)
    }
}

impl std::fmt::Display for Patch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (key, value) in &self.header {
            let mut line = format!("{key}:");
            for word in value.split_whitespace() {
                if line.len() + 1 + word.len() > 100 {
                    writeln!(f, "{line}")?;
                    line.clear();
                }
                let _ = write!(line, " {word}");
            }
            writeln!(f, "{line}")?;
        }
        for change in &self.changes {
            let Change { path, is_new, hunks } = change;
            let old = if *is_new { "/dev/null".to_owned() } else { format!("a/{path}") };
            write!(f, "\n--- {old}\n+++ b/{path}\n")?;
            let mut moved = 0isize;
            for hunk in hunks {
                let (old, new) = (hunk.count(Op::Add), hunk.count(Op::Remove));
                let first = |lines: usize, at: usize| if lines == 0 { at } else { at + 1 };
                let to = hunk.at.saturating_add_signed(moved);
                writeln!(f, "@@ -{},{old} +{},{new} @@", first(old, hunk.at), first(new, to))?;
                for (op, line) in &hunk.lines {
                    let mark = match op {
                        Op::Keep => ' ',
                        Op::Remove => '-',
                        Op::Add => '+',
                    };
                    writeln!(f, "{mark}{line}")?;
                }
                moved += new as isize - old as isize;
            }
        }
        Ok(())
    }
}

impl Hunk {
    /// How many lines it has, without those of one kind.
    fn count(&self, without: Op) -> usize {
        self.lines.iter().filter(|(op, _)| *op != without).count()
    }

    fn describe(&self, path: &str) -> String {
        let mut text = format!("{path}: no place near line {} for", self.at + 1);
        for (op, line) in &self.lines {
            let mark = match op {
                Op::Keep => ' ',
                Op::Remove => '-',
                Op::Add => '+',
            };
            let _ = write!(text, "\n  {mark}{line}");
        }
        text
    }

    /// Where it belongs, nearest to `expected`. With context left out, only if there is one such place.
    fn find(&self, lines: &[String], expected: usize) -> Option<Place> {
        let before: Vec<&str> =
            self.lines.iter().filter(|(op, _)| *op != Op::Add).map(|(_, line)| line.as_str()).collect();
        let keeps =
            |lines: &mut dyn Iterator<Item = &(Op, String)>| lines.take_while(|(op, _)| *op == Op::Keep).count();
        let (head, tail) = (keeps(&mut self.lines.iter()), keeps(&mut self.lines.iter().rev()));
        let all = (0..=FUZZ.min(head)).flat_map(|h| (0..=FUZZ.min(tail)).map(move |t| (h, t)));
        let mut all: Vec<(usize, usize)> = all.filter(|(h, t)| h + t < before.len().max(1)).collect();
        all.sort_by_key(|(h, t)| (h + t, h.abs_diff(*t)));
        for left_out in all {
            let wanted = &before[left_out.0..before.len() - left_out.1];
            let says_something = wanted.iter().any(|line| line.chars().filter(|c| c.is_alphanumeric()).count() > 3);
            let is_whole = left_out == (0, 0);
            if !is_whole && !says_something {
                continue;
            }
            let last = (lines.len() + 1).saturating_sub(wanted.len());
            let fits = |at: &usize| wanted.iter().zip(&lines[*at..]).all(|(one, other)| one == other);
            let mut places: Vec<usize> = (0..last).filter(fits).collect();
            if !is_whole && places.len() > 1 {
                continue;
            }
            let expected = expected + left_out.0;
            places.sort_by_key(|at| at.abs_diff(expected));
            if let Some(at) = places.first() {
                return Some(Place { at: *at, left_out });
            }
        }
        None
    }

    fn at_place(&self, place: Place) -> &[(Op, String)] {
        &self.lines[place.left_out.0..self.lines.len() - place.left_out.1]
    }

    /// Puts it in. Gives how far what follows has moved.
    fn put(&self, lines: &mut Vec<String>, place: Place) -> isize {
        let hunk = self.at_place(place);
        let old = hunk.iter().filter(|(op, _)| *op != Op::Add).count();
        let new: Vec<String> = hunk.iter().filter(|(op, _)| *op != Op::Remove).map(|(_, line)| line.clone()).collect();
        let grown = new.len() as isize - old as isize;
        lines.splice(place.at..place.at + old, new);
        let drift = place.at as isize - place.left_out.0 as isize - self.at as isize;
        drift + grown
    }

    /// The same changes, with as much context as a refreshed hunk has.
    fn with_context_of(&self, lines: &[String], place: Place) -> Self {
        let hunk = self.at_place(place);
        let first = hunk.iter().position(|(op, _)| *op != Op::Keep).unwrap_or(0);
        let last = hunk.iter().rposition(|(op, _)| *op != Op::Keep).map_or(hunk.len(), |last| last + 1);
        let begin = place.at + first;
        let end = begin + hunk[first..last].iter().filter(|(op, _)| *op != Op::Add).count();
        let (from, to) = (begin.saturating_sub(CONTEXT), (end + CONTEXT).min(lines.len()));
        let keep = |lines: &[String]| lines.iter().map(|line| (Op::Keep, line.clone())).collect::<Vec<_>>();
        let lines = [keep(&lines[from..begin]), hunk[first..last].to_vec(), keep(&lines[end..to])].concat();
        let mut hunk = Self { at: from, lines, announced: (0, 0) };
        hunk.announced = (hunk.count(Op::Add), hunk.count(Op::Remove));
        hunk
    }
}

/// Lines of the old file before a hunk, and how many it has of the old and of the new file: `12,3 +14,5 @@`.
fn ranges_of(text: &str) -> Option<(usize, usize, usize)> {
    let mut words = text.split_whitespace();
    let mut range = || {
        let range = words.next()?;
        let (first, count) = range.split_once(',').unwrap_or((range, "1"));
        Some((first.trim_start_matches('+').parse::<usize>().ok()?, count.parse::<usize>().ok()?))
    };
    let ((first, old), (_, new)) = (range()?, range()?);
    Some((first.saturating_sub(usize::from(old > 0)), old, new))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "\
Sabotage: no-sync
Caught-by: durable
What: A sync does nothing
 at all.

--- a/src/x.rs
+++ b/src/x.rs
@@ -2,3 +2,4 @@
 fn sync() {
+    return;
     really();
 }
";

    fn file(text: &str) -> Files {
        Files::from([("src/x.rs".to_owned(), text.to_owned())])
    }

    fn applied(text: &str) -> Result<String, String> {
        let mut files = file(text);
        Patch::parse(PATCH).unwrap().apply(&mut files).map(|()| files["src/x.rs"].clone())
    }

    #[test]
    fn a_patch_is_read_applied_and_written_again() {
        let patch = Patch::parse(PATCH).unwrap();
        assert_eq!(patch.header("What"), Some("A sync does nothing at all."));
        assert_eq!(
            applied("a\nfn sync() {\n    really();\n}\n").unwrap(),
            "a\nfn sync() {\n    return;\n    really();\n}\n"
        );
        assert_eq!(Patch::parse(&patch.to_string()), Ok(patch));
    }

    #[test]
    fn it_finds_its_place_in_a_file_that_has_moved_on() {
        let moved = "a\nb\nc\nd\n\nfn sync() {\n    really();\n}\n";
        assert_eq!(applied(moved).unwrap(), "a\nb\nc\nd\n\nfn sync() {\n    return;\n    really();\n}\n");
        let fresh = Patch::parse(PATCH).unwrap().refreshed(&file(moved)).unwrap();
        assert!(fresh.to_string().contains("@@ -5,4 +5,5 @@\n \n fn sync() {\n+"), "{fresh}");
    }

    #[test]
    fn context_that_changed_at_the_edges_is_left_out_if_one_place_is_left() {
        let changed = "fn sync() -> bool {\n    really();\n}\n";
        assert_eq!(applied(changed).unwrap(), "fn sync() -> bool {\n    return;\n    really();\n}\n");
        assert!(applied(&changed.repeat(2)).is_err(), "which of the two is not known");
        assert!(applied("fn other() {\n    truly();\n}\n").is_err());
    }

    #[test]
    fn what_finds_no_place_is_told() {
        let lost = applied("nothing\n").unwrap_err();
        assert!(lost.starts_with("src/x.rs: no place near line 2"), "{lost}");
        assert!(Patch::parse("What: nothing\n").is_err());
        assert!(Patch::parse("--- a/x\n+++ b/x\nwhat\n").is_err());
    }
}
