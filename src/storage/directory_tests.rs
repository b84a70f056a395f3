use std::sync::Arc;

use super::*;
use crate::storage::testing::{Dice, FaultDisk, TestWorld};
use crate::wire::peer::FoundingMember;
use crate::wire::{Quotas, ServerAddress};
use crate::world::{OpenMode, RealDisk, RealWorld};

fn identity() -> Identity {
    let name = Name::new("a").unwrap();
    let member = FoundingMember {
        server: ServerAddress { name: name.clone(), address: "127.0.0.1:1".to_owned() },
        incarnation: 1,
        disk: 7,
    };
    Identity {
        cluster: ClusterId(9),
        name,
        incarnation: 1,
        founding: Some(Founding { members: vec![member], quotas: Quotas::default() }),
    }
}

fn open(disk: &FaultDisk) -> Result<DataDirectory, OpenError> {
    DataDirectory::open::<TestWorld>(Arc::new(disk.clone()))
}

fn touch(disk: &FaultDisk, path: &str) {
    disk.create_directory(path.rsplit_once('/').map_or("", |(parent, _)| parent)).unwrap();
    let file = disk.open(path, OpenMode::Create).unwrap();
    file.write_at(0, b"something").unwrap();
    file.sync().unwrap();
    disk.sync_directory(path.rsplit_once('/').map_or("", |(parent, _)| parent)).unwrap();
}

#[test]
fn a_real_directory_keeps_its_id_and_identity_and_serves_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let disk = || Arc::new(RealDisk::new(directory.path()).unwrap());
    let mut one = DataDirectory::open::<RealWorld>(disk()).unwrap();
    assert!(matches!(DataDirectory::open::<RealWorld>(disk()), Err(OpenError::InUse { .. })));
    assert_eq!((one.identity(), one.has_set_aside()), (None, false));
    one.set_identity(identity()).unwrap();
    let id = one.disk_id();
    drop(one);
    let mut again = DataDirectory::open::<RealWorld>(disk()).unwrap();
    assert_eq!((again.disk_id(), again.identity()), (id, Some(&identity())));
    disk().create_directory("log").unwrap();
    again.set_aside::<RealWorld>("a test").unwrap();
    assert_ne!(again.disk_id(), id);
    drop(again);
    let after = DataDirectory::open::<RealWorld>(disk()).unwrap();
    assert_eq!((after.identity(), after.has_set_aside()), (None, true));
    let aside = disk().list("quarantine").unwrap();
    assert_eq!(
        disk().list(&format!("quarantine/{}", aside[0])).unwrap(),
        ["identity", "log", "manifest", "reason.txt"]
    );
}

#[test]
fn a_crash_while_setting_aside_never_leaves_an_identity_without_its_log() {
    for seed in 0..300 {
        TestWorld::seed(seed);
        let mut dice = Dice(seed);
        let mut disk = FaultDisk::new();
        let mut directory = open(&disk).unwrap();
        directory.set_identity(identity()).unwrap();
        touch(&disk, "log/1");
        touch(&disk, "checkpoint/state");
        let id = directory.disk_id();
        let after = dice.below(30);
        disk.knobs(|knobs| knobs.dies_after = Some(after));
        let done = directory.set_aside::<TestWorld>("a test").is_ok();
        drop(directory);
        disk = disk.crash(&mut dice);
        // The next start may be interrupted too.
        let after = dice.below(30);
        disk.knobs(|knobs| knobs.dies_after = Some(after));
        drop(open(&disk));
        disk = disk.crash(&mut dice);
        let directory = open(&disk).unwrap();
        let files = disk.files();
        let log = files.contains_key("log/1");
        assert_eq!(directory.identity().is_some(), log, "seed {seed}: {:?}", files.keys());
        assert_eq!(directory.disk_id() == id, log, "seed {seed}");
        assert!(log || directory.has_set_aside(), "seed {seed}");
        assert!(!(done && log), "seed {seed}: it came back");
        assert_eq!(files.keys().filter(|name| name.ends_with("/1")).count(), 1, "seed {seed}: nothing is deleted");
        assert_eq!(files.keys().filter(|name| name.ends_with("/state")).count(), 1, "seed {seed}");
        assert_eq!(files.keys().filter(|name| name.ends_with("identity")).count(), 1, "seed {seed}");
    }
}

#[test]
fn a_crash_at_any_moment_leaves_the_identity_before_or_after() {
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let mut disk = FaultDisk::new();
        let mut known = None;
        for incarnation in 1..6 {
            let after = dice.below(14);
            disk.knobs(|knobs| knobs.dies_after = Some(after));
            let next = Identity { incarnation, ..identity() };
            let done = open(&disk).and_then(|mut directory| Ok(directory.set_identity(next.clone())?)).is_ok();
            disk = disk.crash(&mut dice);
            let found = open(&disk).unwrap().identity().cloned();
            assert!(found == Some(next.clone()) || (!done && found == known), "seed {seed}: {found:?}");
            known = found;
            disk = disk.kill();
        }
    }
}

#[test]
fn damage_newer_formats_and_foreign_directories_are_told() {
    let disk = FaultDisk::new();
    open(&disk).unwrap().set_identity(identity()).unwrap();
    let files = disk.kill().files();
    for name in ["manifest", "identity"] {
        for at in 0..files[name].len() {
            let mut files = files.clone();
            files.get_mut(name).unwrap()[at] ^= 1 << (at % 8);
            assert!(matches!(open(&FaultDisk::with(&files)), Err(OpenError::Damaged { file }) if file == name));
        }
        let disk = FaultDisk::with(&files);
        let kind = if name == "manifest" { MANIFEST_KIND } else { IDENTITY_KIND };
        small_file::write(&disk, "", name, Kind { format: 2, ..kind }, b"later").unwrap();
        let error = open(&disk).unwrap_err();
        assert!(matches!(error, OpenError::NewerFormat { found: 2, known: 1, .. }));
        assert!(error.to_string().contains("upgrade this server"), "{error}");
    }
    let mut without = files.clone();
    without.remove("manifest");
    assert!(matches!(open(&FaultDisk::with(&without)), Err(OpenError::Damaged { file }) if file == "manifest"));
    let aside = DataDirectory::open_set_aside::<TestWorld>(Arc::new(FaultDisk::with(&without)), "lost").unwrap();
    assert!(aside.has_set_aside() && aside.identity().is_none());

    let foreign = FaultDisk::new();
    touch(&foreign, "thesis.tex");
    assert!(matches!(open(&foreign), Err(OpenError::NotOurs { example, .. }) if example == "thesis.tex"));
    let foreign: Arc<dyn Disk> = Arc::new(foreign);
    assert!(DataDirectory::open_set_aside::<TestWorld>(foreign, "no").is_err());
}
