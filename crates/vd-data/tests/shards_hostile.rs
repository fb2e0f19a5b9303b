//! Shards that were tampered with, and invalid sources.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{gifs, huge_gif, marked};
use serde_json::Value;
use vd_data::{Error, Folder, Prepare, Prepared, prepare, stats, write_gif, write_preview};

fn run(source: &Path, out: &Path) -> Prepared {
    prepare(&Prepare::new(source, out), &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Changes the clip in line `number` of an index, and reads it.
fn tampered(out: &Path, number: usize, change: impl Fn(&mut Value)) -> String {
    let path = out.join("index.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    change(&mut lines[number - 1]);
    let changed: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&path, changed).unwrap();
    let error = Folder::list_shards(out).unwrap_err();
    fs::write(&path, text).unwrap();
    assert!(!error.is_bad_file(), "{error}");
    error.to_string()
}

#[test]
fn an_index_that_contradicts_itself_or_its_shards_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (videos, out) = (dir.path().join("videos"), dir.path().join("out"));
    fs::create_dir(&videos).unwrap();
    gifs(&videos, 3, |_| 5);
    run(&videos, &out);
    let set = |key: &'static str, value: Value| {
        tampered(&out, 3, move |line| line["clip"][key] = value.clone())
    };
    let huge = [1u64 << 40, 1 << 40, 1, 3];
    for (message, part) in [
        (set("offset", 100.into()), "line 3: expected 720 bytes at a multiple of 64"),
        (set("offset", 0.into()), "its own bytes in shard 0"),
        (set("offset", (u64::MAX - 63).into()), "offset 18446744073709551552"),
        (set("offset", (1u64 << 40).into()), "offset"),
        (set("shard", 1.into()), "a shard below 1"),
        (set("shape", huge.to_vec().into()), "at most 2 GiB"),
        (set("shape", vec![5, 6, 0, 3].into()), "at least 1"),
        (set("shape", vec![5, 6, 9, 3].into()), "line"),
        (set("shape", vec![1, 2, 20_000, 3].into()), "16384 pixels per side"),
        (set("fps", "NaN".into()), "frame rate"),
        (set("fps", "-1".into()), "frame rate"),
        (set("dtype", "f64".into()), "unknown variant"),
        (set("caption", "x".repeat(70_000).into()), "65536 bytes"),
        (set("more", 1.into()), "unknown field"),
    ] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    let header =
        |key: &'static str, value: Value| tampered(&out, 1, move |line| line[key] = value.clone());
    assert!(header("lines", (1u64 << 60).into()).contains("lines after the first"));
    assert!(header("version", 2.into()).contains("version 1"));
    assert!(header("format", "other".into()).contains("header of an index"));
    assert!(header("shards", Vec::<u64>::new().into()).contains("a shard below 0"));
    assert!(header("shards", vec![1u64 << 50].into()).contains("1125899906842624 bytes"));
    let outside = serde_json::json!({ "table": "../../etc/passwd" });
    assert!(header("captions", outside).contains("a table of captions in the folder"));
    // files that were truncated, or removed
    let (index, shard) = (out.join("index.jsonl"), out.join("shard-00000.bin"));
    let bytes = fs::read(&index).unwrap();
    for part in [0, 10, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&index, &bytes[..part]).unwrap();
        let error = Folder::list_shards(&out).unwrap_err();
        assert!(matches!(error, Error::Shards { .. }), "{error}");
    }
    fs::write(&index, bytes).unwrap();
    let whole = fs::read(&shard).unwrap();
    let folder = Folder::list_shards(&out).unwrap();
    fs::write(&shard, &whole[..800]).unwrap();
    assert!(folder.entries()[0].media.decode(3).is_ok());
    let error = folder.entries()[1].media.decode(3).unwrap_err();
    assert!(error.is_bad_file() && error.to_string().contains("truncated to"), "{error}");
    assert!(Folder::list_shards(&out).unwrap_err().to_string().contains("800 bytes"));
    fs::remove_file(&shard).unwrap();
    assert!(matches!(Folder::list_shards(&out).unwrap_err(), Error::Read { .. }));
}

#[test]
fn no_source_stops_a_preparation_and_every_bad_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (videos, out) = (dir.path().join("videos"), dir.path().join("out"));
    fs::create_dir(&videos).unwrap();
    let names: [&[u8]; 5] =
        [b"-n.gif", b"two\nlines.gif", b"\xff\xfe.gif", b" .gif", b"a'\"$(x).gif"];
    for (k, name) in (0u8..).zip(names) {
        write_gif(&videos.join(OsStr::from_bytes(name)), &marked(k, [3, 6, 8])).unwrap();
    }
    fs::write(videos.join("two\nlines.txt"), "of two\nlines").unwrap();
    fs::write(videos.join("empty.gif"), "").unwrap();
    fs::write(videos.join("video.gif"), b"\0\0\0\x20ftypisom").unwrap();
    huge_gif(&videos.join("huge.gif"));
    // valid content with a wrong extension
    fs::copy(videos.join("-n.gif"), videos.join("really.apng")).unwrap();
    symlink(&videos, videos.join("loop")).unwrap();
    symlink("nowhere", videos.join("gone.gif")).unwrap();
    symlink("self.gif", videos.join("self.gif")).unwrap();
    let report = run(&videos, &out);
    assert_eq!(report.clips, 6, "{report:?}");
    assert_eq!(report.bad_files.len(), 5, "{:?}", report.bad_files);
    let bad = fs::read_to_string(out.join("bad.jsonl")).unwrap();
    let lines: Vec<Value> = bad.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    assert!(lines.iter().all(|line| !line["reason"].as_str().unwrap().is_empty()));
    let folder = Folder::list_shards(&out).unwrap();
    let there: Vec<_> = folder.entries().iter().map(|entry| entry.name.as_os_str()).collect();
    assert!(names.iter().all(|name| there.contains(&OsStr::from_bytes(name))));
    let original = Folder::list(&videos).unwrap();
    // until it is decoded, only the first bytes of a film are checked
    assert_eq!(original.entries().len(), 7);
    for two in folder.entries() {
        let one = original.entries().iter().find(|one| one.name == two.name).unwrap();
        assert_eq!(one.caption, two.caption);
        // a clip that could not be prepared keeps its position in the order, without content
        match (one.media.decode(3), two.media.decode(3)) {
            (Ok(one), Ok(two)) => assert_eq!(one, two),
            (one, two) => assert!(one.is_err() && two.is_err(), "{one:?} {two:?}"),
        }
    }
    // names of any kind can be drawn and counted
    let source = vd_data::Source::Shards { path: out.clone() };
    assert_eq!(stats(&source, 3).unwrap().clips, 6);
    let drawn = write_preview(&dir.path().join("a.png"), &folder, 20, 2).unwrap();
    assert_eq!((drawn.shown, drawn.bad_files.len()), (6, 1));
    assert!(run(&videos, &out).unchanged);
}
