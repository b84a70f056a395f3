//! A run as one page that needs nothing else: a space-time diagram with a lane for every server and client.
//!
//! This side collects what is shown ([`data`]) and puts it into the page; drawing and everything that moves is in
//! the scripts beside it (`page.js` is what the reader does), the looks are in `page.css`.

mod data;

use crate::plan::Plan;
use crate::record::Record;
use crate::run::Outcome;
use crate::story::Story;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// In this order: they share one scope.
const SCRIPTS: [&str; 6] = [
    include_str!("model.js"),
    include_str!("view.js"),
    include_str!("draw.js"),
    include_str!("marks.js"),
    include_str!("panel.js"),
    include_str!("page.js"),
];

/// The page for a run; `command` is what runs it again.
///
/// # Errors
/// The text says what could not be encoded.
pub fn page(
    plan: &Plan,
    outcome: &Outcome,
    record: &Record,
    story: &Story,
    command: &str,
) -> Result<String, serde_json::Error> {
    let data = serde_json::to_string(&data::Data::new(plan, outcome, record, story, command))?;
    Ok(fill(&data, plan.seed))
}

fn fill(data: &str, seed: u64) -> String {
    // Within a script element only `<` could end it.
    let data = data.replace('<', "\\u003c");
    let script = SCRIPTS.concat();
    let parts = [("/*STYLE*/", STYLE), ("/*DATA*/", &data), ("/*SCRIPT*/", &script), ("/*SEED*/", &seed.to_string())];
    let mut page = String::with_capacity(PAGE.len() + STYLE.len() + script.len() + data.len());
    let mut rest = PAGE;
    // In one pass, so that nothing within the data is taken for a place.
    while let Some((at, (place, part))) =
        parts.iter().filter_map(|part| rest.find(part.0).map(|at| (at, part))).min_by_key(|(at, _)| *at)
    {
        page.push_str(&rest[..at]);
        page.push_str(part);
        rest = &rest[at + place.len()..];
    }
    page + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_data_ends_the_script_or_is_taken_for_a_place() {
        let page = fill("{\"text\":\"</script> /*SCRIPT*/ /*DATA*/\"}", 77);
        assert!(page.contains("{\"text\":\"\\u003c/script> /*SCRIPT*/ /*DATA*/\"}"));
        assert_eq!(page.matches("/*DATA*/").count(), 1);
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(page.contains("77"));
    }

    #[test]
    fn the_page_asks_for_nothing_from_elsewhere() {
        for text in [PAGE, STYLE, &SCRIPTS.concat()] {
            for outside in ["http://", "https://", "@import", "src=", "fetch(", "XMLHttpRequest", "url("] {
                assert!(!text.contains(outside), "{outside}");
            }
        }
    }
}
