//! The fixed seeds: every one passes, and together they come to every place that they must.

use std::collections::BTreeSet;
use std::path::Path;

use restante_sim::check::Checks;
use restante_sim::cluster::Cluster;
use restante_sim::plan::Plan;
use restante_sim::reach::PLACES;

/// How many there are, from 0 on.
const SEEDS: u32 = 40;

#[test]
fn every_seed_passes_and_every_place_is_reached() {
    let tally = Checks::new(&Cluster).seeds(0, SEEDS);
    println!("{tally}");
    assert_eq!(tally.reach.missed(), Vec::<&str>::new(), "places that {SEEDS} seeds never reached\n{tally}");
    // Every kind of fault that seeds may draw has begun.
    let drawn: BTreeSet<&str> =
        (0..500).flat_map(|seed| Plan::from_seed(seed).faults).map(|interval| interval.fault.kind()).collect();
    let begun: BTreeSet<&str> = tally.faults.keys().copied().collect();
    assert_eq!(drawn.difference(&begun).collect::<Vec<_>>(), Vec::<&&str>::new(), "faults that never began\n{tally}");
}

/// What the code tells of and the list of places are the same.
#[test]
fn places_that_the_code_tells_of_are_listed() {
    let mut told = BTreeSet::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"), &mut told);
    let listed: BTreeSet<String> =
        PLACES.iter().filter(|place| place.is_told()).map(|place| place.name.to_owned()).collect();
    assert_eq!(told, listed);
}

/// The texts of `W::reached("…")`, and of the function that gives effects their names.
#[expect(clippy::disallowed_methods, reason = "a test reads the files of its repository")]
fn collect(directory: &Path, told: &mut BTreeSet<String>) {
    for entry in directory.read_dir().expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, told);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let quoted = |text: &str| text.split('"').next().unwrap_or_default().to_owned();
            told.extend(text.split("reached(\"").skip(1).map(quoted));
            let of_effects = text.split("fn place_of(").nth(1).and_then(|rest| rest.split("\n}\n").next());
            told.extend(of_effects.unwrap_or_default().split("=> \"").skip(1).map(quoted));
        }
    }
}
