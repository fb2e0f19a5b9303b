//! Replacing a file: whole or not at all, and as the user would expect of any file.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;

use vd_tensor_ops::{Error, write_atomically, write_atomically_with};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_failed_write_leaves_the_old_content_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.json");
    write_atomically(&path, b"old").unwrap();
    let failed: Result<(), Error> = write_atomically_with(&path, |file| {
        file.write_all(&[1; 3 << 20]).unwrap();
        Err(Error::Mismatch("half-way".into()))
    });
    assert!(matches!(failed, Err(Error::Mismatch(_))));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(folder.path()), ["a.json"]);
    write_atomically(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["a.json"]);
}

#[test]
fn readers_see_the_old_file_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    let content = |k: u8| vec![k; 200_000];
    write_atomically(&path, &content(0)).unwrap();
    std::thread::scope(|scope| {
        let writer =
            scope.spawn(|| (1..30).for_each(|k| write_atomically(&path, &content(k)).unwrap()));
        while !writer.is_finished() {
            let seen = fs::read(&path).unwrap();
            assert_eq!(seen, content(seen[0]));
        }
    });
}

#[test]
fn a_new_file_has_the_mode_of_any_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
    fs::write(folder.path().join("plain"), b"").unwrap();
    write_atomically(&folder.path().join("atomic"), b"").unwrap();
    assert_eq!(mode("atomic"), mode("plain"));
}

#[test]
fn a_link_stays_and_its_target_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    let (link, target) = (folder.path().join("latest"), folder.path().join("sub/real"));
    fs::write(&target, b"old").unwrap();
    symlink("sub/real", &link).unwrap();
    write_atomically(&link, b"new").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&target).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["latest", "sub"]);
}

#[test]
fn a_device_is_written_to_and_not_replaced() {
    write_atomically(Path::new("/dev/null"), b"gone").unwrap();
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let error = write_atomically(Path::new("/dev/full"), b"no room").unwrap_err();
    assert!(error.to_string().starts_with("/dev/full: No space left"), "{error}");
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = write_atomically(folder.path(), b"x").unwrap_err().to_string();
    assert!(error.contains(folder.path().to_str().unwrap()), "{error}");
    let inside = folder.path().join("absent/x.json");
    let error = write_atomically(&inside, b"x").unwrap_err().to_string();
    assert!(error.contains("absent/x.json: No such file"), "{error}");
}
