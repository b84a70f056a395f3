//! The disk against a naive model that keeps every file as plain bytes, twice: as seen, and as durable.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Write { file: usize, offset: u64, bytes: usize, fill: u8 },
    SetLen { file: usize, len: u64 },
    Sync { file: usize },
    Rename { from: usize, to: usize },
    Remove { file: usize },
    SyncDirectory,
    Kill,
    PowerCut,
}

const NAMES: [&str; 3] = ["x", "y", "z"];

fn step() -> impl Strategy<Value = Step> {
    let file = 0..NAMES.len();
    prop_oneof![
        6 => (file.clone(), 0u64..9000, 1usize..6000, 1u8..)
            .prop_map(|(file, offset, bytes, fill)| Step::Write { file, offset, bytes, fill }),
        2 => (file.clone(), 0u64..9000).prop_map(|(file, len)| Step::SetLen { file, len }),
        4 => file.clone().prop_map(|file| Step::Sync { file }),
        1 => (file.clone(), file.clone()).prop_map(|(from, to)| Step::Rename { from, to }),
        1 => file.prop_map(|file| Step::Remove { file }),
        3 => Just(Step::SyncDirectory),
        1 => Just(Step::Kill),
        2 => Just(Step::PowerCut),
    ]
}

/// A file by identity: names point to it.
#[derive(Debug, Clone, Default)]
struct ModelFile {
    seen: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug, Default)]
struct Model {
    files: BTreeMap<usize, ModelFile>,
    next: usize,
    names: BTreeMap<&'static str, usize>,
    /// Every state of the names since they were last durable, that one included.
    histories: Vec<BTreeMap<&'static str, usize>>,
}

impl Model {
    fn renamed(&mut self) {
        self.histories.push(self.names.clone());
    }
}

fn bytes_of(disk: &SimDisk, path: &str) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Existing).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Whether a power cut may leave `left` of this file: every sector as it was durable or as it was seen.
fn may_be_left(file: &ModelFile, left: &[u8]) -> bool {
    let (low, high) = (file.seen.len().min(file.durable.len()), file.seen.len().max(file.durable.len()));
    if left.len() < low || left.len() > high {
        return false;
    }
    let at = |bytes: &[u8], index: usize| bytes.get(index).copied().unwrap_or(0);
    (0..left.len()).step_by(512).all(|start| {
        let range = start..(start + 512).min(left.len());
        range.clone().all(|i| left[i] == at(&file.seen, i)) || range.clone().all(|i| left[i] == at(&file.durable, i))
    })
}

fn run(seed: u64, steps: Vec<Step>) {
    let drive = Drive::new("a", seed, 0..=0);
    let mut disk = drive.attach();
    let mut model = Model::default();
    model.renamed();
    for step in steps {
        match step {
            Step::Write { file, offset, bytes, fill } => {
                let name = NAMES[file];
                disk.open(name, OpenMode::Create).unwrap().write_at(offset, &vec![fill; bytes]).unwrap();
                let id = model.names.get(name).copied().unwrap_or_else(|| {
                    model.next += 1;
                    model.names.insert(name, model.next);
                    model.renamed();
                    model.next
                });
                let seen = &mut model.files.entry(id).or_default().seen;
                let end = offset as usize + bytes;
                seen.resize(seen.len().max(end), 0);
                seen[offset as usize..end].fill(fill);
            }
            Step::SetLen { file, len } => {
                let Some(id) = model.names.get(NAMES[file]) else { continue };
                disk.open(NAMES[file], OpenMode::Existing).unwrap().set_len(len).unwrap();
                model.files.get_mut(id).unwrap().seen.resize(len as usize, 0);
            }
            Step::Sync { file } => {
                let Some(id) = model.names.get(NAMES[file]) else { continue };
                disk.open(NAMES[file], OpenMode::Existing).unwrap().sync().unwrap();
                let file = model.files.get_mut(id).unwrap();
                file.durable = file.seen.clone();
            }
            Step::Rename { from, to } => {
                let Some(id) = model.names.get(NAMES[from]).copied() else { continue };
                disk.rename(NAMES[from], NAMES[to]).unwrap();
                model.names.remove(NAMES[from]);
                model.names.insert(NAMES[to], id);
                model.renamed();
            }
            Step::Remove { file } => {
                let there = model.names.remove(NAMES[file]).is_some();
                assert_eq!(disk.remove(NAMES[file]).is_ok(), there);
                model.renamed();
            }
            Step::SyncDirectory => {
                disk.sync_directory("").unwrap();
                model.histories.clear();
                model.renamed();
            }
            Step::Kill => {
                drive.process_died();
                disk = drive.attach();
            }
            Step::PowerCut => {
                drive.power_cut();
                disk = drive.attach();
                let left: BTreeMap<String, Vec<u8>> =
                    disk.list("").unwrap().into_iter().map(|name| (name.clone(), bytes_of(&disk, &name))).collect();
                // Some prefix of the names' changes, with every file in a state that it may be left in.
                let kept = model.histories.iter().find(|names| {
                    names.len() == left.len()
                        && names
                            .iter()
                            .all(|(name, id)| left.get(*name).is_some_and(|bytes| may_be_left(&model.files[id], bytes)))
                });
                let Some(kept) = kept.cloned() else { panic!("a power cut left {:?}", left.keys()) };
                for (name, id) in &kept {
                    let file = model.files.get_mut(id).unwrap();
                    file.seen = left[*name].clone();
                    file.durable = file.seen.clone();
                }
                model.names = kept;
                model.histories.clear();
                model.renamed();
            }
        }
        let names: Vec<&str> = model.names.keys().copied().collect();
        assert_eq!(disk.list("").unwrap(), names);
        for (name, id) in &model.names {
            assert!(bytes_of(&disk, name) == model.files[id].seen, "{name} reads as something else");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn the_disk_does_what_the_model_allows(seed: u64, steps in prop::collection::vec(step(), 1..40)) {
        run(seed, steps);
    }
}
