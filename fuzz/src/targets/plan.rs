//! The text of a simulation's plan: what is read can be written and is read as the same, and every line stands alone.

use restante_sim::plan::Plan;

/// Takes `data` for a plan's text.
pub fn plan(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(plan) = text.parse::<Plan>() else { return };
    let _ = plan.warnings();
    let written = plan.to_string();
    assert_eq!(written.parse::<Plan>().as_ref(), Ok(&plan), "what was written is read as the same: {written}");
    let lines: Vec<&str> = written.lines().collect();
    for deleted in 0..lines.len().min(40) {
        let rest = [&lines[..deleted], &lines[deleted + 1..]].concat().join("\n");
        assert!(rest.parse::<Plan>().is_ok(), "without line {deleted}: {written}");
    }
}
