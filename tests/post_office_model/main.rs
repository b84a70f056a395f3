//! The post office against a naive model, over ten thousand generated histories. Fuzzing (`fuzz/`) shares the model and
//! the run, and draws other histories.

mod history;
mod model;
mod operation;
mod requests;
mod run;
mod sharing;

use history::Mix;
use proptest::prelude::*;
use run::check;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn sends_and_acknowledgements(
        steps in history::history(Mix { sends: 12, acknowledgements: 6, readers: 1, others: 3, checkpoints: 1, sharing: 1 })
    ) {
        check(&steps);
    }

    #[test]
    fn readers_that_come_and_go(
        steps in history::history(Mix { sends: 6, acknowledgements: 3, readers: 3, others: 1, checkpoints: 1, sharing: 1 })
    ) {
        check(&steps);
    }

    #[test]
    fn channels_and_delivered_receipts(
        steps in history::history(
            Mix { sends: 2, acknowledgements: 5, readers: 1, others: 2, checkpoints: 3, sharing: 10 }
        )
    ) {
        check(&steps);
    }

    #[test]
    fn everything_with_many_checkpoints(
        steps in history::history(Mix { sends: 4, acknowledgements: 3, readers: 1, others: 5, checkpoints: 5, sharing: 3 })
    ) {
        check(&steps);
    }
}
