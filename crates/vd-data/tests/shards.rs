//! Prepared clips give the same batches as their folder, and preparation survives interruptions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use common::{cut, gifs, marked};
use tch::Kind;
use vd_data::{
    Batch, Captions, Crop, Cursor, DataConfig, Folder, Loader, Prepare, Prepared, Short, Source,
    is_shards, prepare, verify_shards, write_frames, write_gif,
};

/// Clips of many lengths and two sizes, animated and as frames, in class folders, two of them
/// damaged.
fn source(root: &Path) {
    let files = gifs(root, 7, |k| 2 + 2 * usize::from(k));
    cut(&files[2], 0.6);
    for (k, class) in [(20, "red_dog"), (21, "sea")] {
        fs::create_dir_all(root.join(class).join("still")).unwrap();
        write_gif(&root.join(class).join("a.gif"), &marked(k, [9, 10, 7])).unwrap();
        write_frames(&root.join(class).join("still"), &marked(k, [6, 5, 12])).unwrap();
    }
    fs::write(root.join("sea/a.txt"), "waves").unwrap();
    fs::write(root.join("no.gif"), "text").unwrap();
    fs::write(root.join("notes.md"), "text").unwrap();
}

fn never(_: vd_data::Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn run(config: &Prepare) -> Prepared {
    prepare(config, &mut never).unwrap()
}

fn error(config: &Prepare) -> String {
    prepare(config, &mut never).unwrap_err().to_string()
}

/// Everything in a batch except file names, as values that can be compared bit by bit.
fn content(batch: &Batch) -> impl PartialEq + std::fmt::Debug + use<> {
    let bytes = |tensor: &tch::Tensor| {
        Vec::<u8>::try_from(tensor.to_kind(Kind::Uint8).contiguous().view(-1)).unwrap()
    };
    let rows = batch.rows.iter().map(|row| row.as_ref().map(|row| (row.line, row.columns.clone())));
    (
        (bytes(&batch.video), batch.video.size(), batch.keep.as_ref().map(bytes)),
        (batch.captions.clone(), rows.collect::<Vec<_>>(), batch.folders.clone()),
        batch.fps.iter().map(|fps| fps.to_bits()).collect::<Vec<_>>(),
        (batch.taken.clone(), batch.cursor_after),
    )
}

fn assert_same_batches(one: &DataConfig, two: &DataConfig, size: usize, n: usize) {
    let mut one = Loader::new(one, size, Cursor::start(5)).unwrap();
    let mut two = Loader::new(two, size, Cursor::start(5)).unwrap();
    for _ in 0..n {
        assert_eq!(content(&one.next().unwrap()), content(&two.next().unwrap()));
    }
    assert_eq!(one.bad_files().len(), two.bad_files().len());
}

#[test]
fn shards_give_the_batches_of_their_folder() {
    let dir = tempfile::tempdir().unwrap();
    let (videos, out) = (dir.path().join("videos"), dir.path().join("out"));
    fs::create_dir(&videos).unwrap();
    source(&videos);
    let report = run(&Prepare::new(&videos, &out));
    // seven minus a truncated one, and two of each class; the truncated one and the text
    assert_eq!((report.clips, report.new, report.bad_files.len()), (10, 10, 2));
    assert!(is_shards(&out) && !is_shards(&videos));
    let base = DataConfig { frames: 4, size: [5, 5], workers: 0, ..DataConfig::default() };
    let variants = [
        DataConfig { crop: Crop::Random, flip: true, ..base.clone() },
        DataConfig { stride: 3, flip: true, workers: 2, ..base.clone() },
        DataConfig { short: Short::Skip, size: [10, 7], ..base.clone() },
        DataConfig { channels: 1, frames: 7, size: [8, 6], crop: Crop::Random, ..base.clone() },
    ];
    for config in variants {
        let folder = DataConfig { source: Source::folder(&videos), ..config.clone() };
        let shards = DataConfig { source: Source::Shards { path: out.clone() }, ..config };
        assert_same_batches(&folder, &shards, 3, 12);
    }
    // a bad file is bad in both, and is counted
    let strict = DataConfig { source: Source::Shards { path: out }, max_bad_files: 0, ..base };
    assert!(Loader::new(&strict, 3, Cursor::start(5)).is_err());
}

#[test]
fn tables_and_class_folders_come_with_the_shards() {
    let dir = tempfile::tempdir().unwrap();
    let (videos, out) = (dir.path().join("videos"), dir.path().join("out"));
    fs::create_dir(&videos).unwrap();
    source(&videos);
    let table = "{\"file\": \"0.gif\", \"caption\": \"zero\", \"speed\": 0.1, \"at\": [1.25, 3e-7]}\n\n\
                 {\"file\": \"sea/a.gif\", \"speed\": 2.3}\n{\"file\": \"2.gif\", \"speed\": 1}\n";
    fs::write(videos.join("t.jsonl"), table).unwrap();
    for captions in [Captions::Table("t.jsonl".into()), Captions::Folders] {
        let out = out.join(format!("{}", captions == Captions::Folders));
        let config = Prepare { captions: captions.clone(), ..Prepare::new(&videos, &out) };
        run(&config);
        let base = DataConfig { frames: 3, size: [6, 6], flip: true, ..DataConfig::default() };
        let source = Source::Folder { path: videos.clone(), captions };
        let folder = DataConfig { source, ..base.clone() };
        let shards = DataConfig { source: Source::Shards { path: out }, ..base };
        assert_same_batches(&folder, &shards, 4, 8);
    }
    // changed captions alone do not require decoding again
    let beside = run(&Prepare::new(&videos, out.join("false")));
    assert_eq!((beside.new, beside.kept, beside.unchanged), (0, 10, false));
    let folder = Folder::list_shards(&out.join("false")).unwrap();
    let captions: Vec<_> = folder.entries().iter().filter_map(|e| e.caption.as_deref()).collect();
    assert!(captions.contains(&"waves") && captions.contains(&"clip 0"));
}

/// Every file of a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap())).collect()
}

#[test]
fn neither_threads_nor_being_killed_change_a_byte() {
    let dir = tempfile::tempdir().unwrap();
    let videos = dir.path().join("videos");
    fs::create_dir(&videos).unwrap();
    source(&videos);
    for k in 30..34 {
        // several shards, of the smallest permitted size
        write_gif(&videos.join(format!("{k}.gif")), &marked(k, [40, 96, 96])).unwrap();
    }
    let config = |name: &str, workers| Prepare {
        shard_bytes: 1 << 20,
        workers,
        ..Prepare::new(&videos, dir.path().join(name))
    };
    let whole = run(&config("whole", 1));
    assert!(whole.shards >= 4 && !whole.stopped);
    let expected = files(&dir.path().join("whole"));
    assert!(expected.keys().all(|name| !name.ends_with("journal.jsonl")));
    run(&config("three", 3));
    assert!(files(&dir.path().join("three")) == expected);
    for stop in [1, 4, 9, 13] {
        let name = format!("stopped{stop}");
        let (config, out) = (config(&name, 2), dir.path().join(&name));
        let mut watch = |progress: vd_data::Progress| match progress.done == stop {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let report = prepare(&config, &mut watch).unwrap();
        assert!(report.stopped && !is_shards(&out));
        // what a killed run leaves: bytes without a line, and half a line
        let last = report.shards.saturating_sub(1);
        let shard = out.join(format!("shard-{last:05}.bin"));
        let longer = [fs::read(&shard).unwrap_or_default(), vec![7; 1000]].concat();
        fs::write(&shard, longer).unwrap();
        fs::write(out.join(format!("shard-{:05}.bin", last + 1)), [7; 100]).unwrap();
        let journal = out.join("journal.jsonl");
        let half = [&fs::read(&journal).unwrap()[..], b"{\"clip\":{\"na"].concat();
        fs::write(&journal, half).unwrap();
        let rest = run(&config);
        assert_eq!(rest.kept, report.new);
        assert_eq!(rest.new + rest.kept, whole.new);
        assert!(files(&out) == expected, "{stop}");
    }
}

#[test]
fn a_second_run_does_what_is_new_and_refuses_what_is_different() {
    let dir = tempfile::tempdir().unwrap();
    let (videos, out) = (dir.path().join("videos"), dir.path().join("out"));
    fs::create_dir(&videos).unwrap();
    source(&videos);
    let config = Prepare::new(&videos, &out);
    let first = run(&config);
    let before = files(&out);
    let again = run(&config);
    assert!(again.unchanged && !first.unchanged && again.new == 0);
    assert!(files(&out) == before);
    // one added, one changed, one removed
    write_gif(&videos.join("new.gif"), &marked(9, [5, 6, 8])).unwrap();
    write_gif(&videos.join("1.gif"), &marked(90, [31, 8, 8])).unwrap();
    fs::remove_file(videos.join("0.gif")).unwrap();
    let third = run(&config);
    assert_eq!((third.new, third.kept, third.clips, third.unchanged), (2, 8, 10, false));
    assert!(third.unused > 0);
    let base = DataConfig { frames: 4, size: [5, 5], ..DataConfig::default() };
    let folder = DataConfig { source: Source::folder(&videos), ..base.clone() };
    let shards = DataConfig { source: Source::Shards { path: out.clone() }, ..base };
    assert_same_batches(&folder, &shards, 3, 8);
    // changed settings
    let message = error(&Prepare { size: Some([8, 4]), ..config.clone() });
    let parts = ["size: expected as it is", "prepared before", "got 8x4"];
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    assert!(error(&Prepare { stride: 2, ..config.clone() }).contains("stride: expected 1"));
    let max_bad = Prepare { max_bad: Some(1), ..config.clone() };
    assert!(error(&max_bad).contains("at least 2 of them"), "{}", error(&max_bad));
    let inside = Prepare::new(&videos, videos.join("out"));
    assert!(error(&inside).contains("outside the source"));
    assert!(!videos.join("out").exists());
    fs::create_dir(dir.path().join("mine")).unwrap();
    fs::write(dir.path().join("mine/journal.jsonl"), "my diary").unwrap();
    let foreign = Prepare::new(&videos, dir.path().join("mine"));
    assert!(error(&foreign).contains("a new or empty folder"));
    let wrong = DataConfig { source: Source::folder(&out), ..DataConfig::default() };
    let message = Loader::new(&wrong, 1, Cursor::start(0)).unwrap_err().to_string();
    assert!(message.contains("kind = \"shards\""), "{message}");
}

#[test]
fn frames_are_left_out_and_scaled_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let videos = dir.path().join("videos");
    fs::create_dir(&videos).unwrap();
    gifs(&videos, 3, |_| 12); // at 10 frames a second
    let prepared = |name: &str, change: &dyn Fn(&mut Prepare)| {
        let mut config = Prepare::new(&videos, dir.path().join(name));
        change(&mut config);
        run(&config);
        let folder = Folder::list_shards(&dir.path().join(name)).unwrap();
        let media = &folder.entries()[1].media;
        (media.probe().unwrap(), media.decode(3).unwrap())
    };
    let (probe, clip) = prepared("fps", &|c| c.fps = Some(2.5));
    assert_eq!((probe.f, probe.fps), (3, 2.5));
    assert_eq!([0, 1, 2].map(|k| clip.frame(k)[1]), [0, 4, 8]);
    let (probe, clip) = prepared("stride", &|c| (c.stride, c.max_frames) = (3, Some(2)));
    assert_eq!((probe.f, probe.fps, clip.frame(1)[1]), (2, 10.0 / 3.0, 3));
    let (probe, _) = prepared("size", &|c| c.size = Some([3, 4]));
    assert_eq!((probe.h, probe.w), (3, 4));
    let (probe, clip) = prepared("grey", &|c| c.channels = 1);
    assert_eq!((probe.h, probe.w, clip.c), (6, 8, 3));
    assert!(clip.frames.chunks(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
    // clips prepared at the size of training give the same batches as the folder
    let config = |source| DataConfig { source, frames: 4, size: [3, 4], ..DataConfig::default() };
    let shards = config(Source::Shards { path: dir.path().join("size") });
    assert_same_batches(&config(Source::folder(&videos)), &shards, 2, 6);
}

#[test]
fn a_byte_that_changed_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (videos, out) = (dir.path().join("videos"), dir.path().join("out"));
    fs::create_dir(&videos).unwrap();
    gifs(&videos, 4, |_| 5);
    run(&Prepare::new(&videos, &out));
    let sound = verify_shards(&out).unwrap();
    assert_eq!((sound.clips, sound.bytes, sound.damaged.len()), (4, 4 * 5 * 6 * 8 * 3, 0));
    let shard = out.join("shard-00000.bin");
    let mut bytes = fs::read(&shard).unwrap();
    // after the first clip, which has 720 bytes, and its padding up to 768
    bytes[768 + 100] ^= 4;
    fs::write(&shard, bytes).unwrap();
    let found = verify_shards(&out).unwrap();
    assert_eq!(found.damaged.iter().map(|bad| &bad.path).collect::<Vec<_>>(), [Path::new("1.gif")]);
}
