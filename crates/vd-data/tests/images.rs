//! Images beside clips: their choice, their metadata, and that they affect nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{cut, gifs, marked, table};
use tch::{Kind, Tensor};
use vd_data::{
    Batch, Captions, Clip, Crop, Cursor, DataConfig, Dataset, DigitsConfig, FireworksConfig,
    Folder, Generator, ImagesConfig, Loader, Result, Short, Source, write_frames, write_gif,
};

fn folder(path: &Path) -> DataConfig {
    DataConfig {
        source: Source::folder(path.to_path_buf()),
        frames: 4,
        size: [6, 8],
        workers: 0,
        ..DataConfig::default()
    }
}

fn with_images(config: &DataConfig, source: Option<Source>, per_clip: usize) -> DataConfig {
    DataConfig { images: Some(ImagesConfig { source, per_clip }), ..config.clone() }
}

fn run(config: &DataConfig, batch: usize, from: Cursor, batches: usize) -> Vec<Batch> {
    let mut loader = Loader::new(config, batch, from).unwrap();
    (0..batches).map(|_| loader.next().unwrap()).collect()
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    Vec::try_from(tensor.to_kind(Kind::Uint8).contiguous().view(-1)).unwrap()
}

/// Everything in a batch that images contribute to.
fn content(batch: &Batch) -> (Vec<u8>, Option<Vec<u8>>, String, Cursor) {
    let keep = batch.keep.as_ref().map(bytes);
    let told = format!("{:?} {:?} {:?}", batch.images, batch.captions, batch.fps);
    (bytes(&batch.video), keep, told, batch.cursor_after)
}

/// Clips from every kind of source that supports images.
fn sources(dir: &Path) -> Vec<DataConfig> {
    let files = gifs(dir, 9, |k| 2 + usize::from(k));
    cut(&files[4], 0.7);
    let config = DataConfig { crop: Crop::Random, flip: true, size: [5, 5], ..folder(dir) };
    let of = |source| DataConfig { source, frames: 3, size: [10, 12], ..config.clone() };
    let fireworks = of(Source::Fireworks(FireworksConfig::default()));
    let digits = of(Source::Digits(DigitsConfig::default()));
    vec![config, fireworks, digits]
}

#[test]
fn images_come_behind_clips_that_are_what_they_are_without() {
    let dir = tempfile::tempdir().unwrap();
    for config in sources(dir.path()) {
        let f = config.frames as i64;
        let without = run(&config, 3, Cursor::start(7), 8);
        for k in [1i64, 5] {
            let with = run(&with_images(&config, None, k as usize), 3, Cursor::start(7), 8);
            for (a, b) in without.iter().zip(&with) {
                assert_eq!((a.clip_frames as i64, b.clip_frames as i64), (f, f));
                assert_eq!(b.video.size()[2], f + k);
                assert_eq!(b.video.narrow(2, 0, f), a.video);
                let keep = |batch: &Batch| match &batch.keep {
                    Some(keep) => keep.shallow_clone(),
                    None => {
                        Tensor::ones([3, batch.video.size()[2]], (Kind::Bool, tch::Device::Cpu))
                    }
                };
                assert_eq!(keep(b).narrow(1, 0, f), keep(a));
                assert!(bool::try_from(keep(b).narrow(1, f, k).all()).unwrap());
                assert_eq!((&a.captions, &a.taken, &a.fps), (&b.captions, &b.taken, &b.fps));
                assert_eq!(a.cursor_after, b.cursor_after);
                assert!(a.images.iter().all(Vec::is_empty));
                assert!(b.images.iter().all(|images| images.len() as i64 == k));
            }
            // The first images do not depend on how many there are.
            let more = run(&with_images(&config, None, k as usize + 2), 3, Cursor::start(7), 8);
            for (a, b) in with.iter().zip(&more) {
                assert_eq!(a.video, b.video.narrow(2, 0, f + k));
                let first =
                    |batch: &Batch| batch.images.iter().map(|i| i[0].clone()).collect::<Vec<_>>();
                assert_eq!(first(a), first(b));
            }
        }
    }
}

#[test]
fn workers_and_resumes_change_no_image() {
    let dir = tempfile::tempdir().unwrap();
    for config in sources(dir.path()) {
        let config = with_images(&config, None, 3);
        let whole = run(&config, 3, Cursor::start(7), 8);
        for workers in [1, 3] {
            let again = run(&DataConfig { workers, ..config.clone() }, 3, Cursor::start(7), 8);
            assert!(whole.iter().zip(&again).all(|(a, b)| content(a) == content(b)));
        }
        for stop in [1, 4] {
            let rest = run(&config, 3, whole[stop - 1].cursor_after, 8 - stop);
            assert!(whole[stop..].iter().zip(&rest).all(|(a, b)| content(a) == content(b)));
        }
        let other = run(&config, 3, Cursor::start(8), 1);
        assert_ne!(content(&whole[0]).0, content(&other[0]).0);
    }
}

#[test]
fn an_image_is_any_frame_of_any_other_clip_with_that_clips_caption() {
    let dir = tempfile::tempdir().unwrap();
    gifs(dir.path(), 4, |_| 5);
    let config = with_images(&folder(dir.path()), None, 3);
    let mut seen = BTreeSet::new();
    for batch in run(&config, 4, Cursor::start(3), 25) {
        for k in 0..4usize {
            // red is the clip, green the frame
            let at = |c, f| batch.video.int64_value(&[k as i64, c, f, 2, 3]);
            for (i, image) in batch.images[k].iter().enumerate() {
                let (clip, frame) = (at(0, 4 + i as i64), at(1, 4 + i as i64));
                assert_ne!(clip, at(0, 0));
                assert_eq!(image.caption, Some(format!("clip {clip}")));
                assert_eq!((image.taken.start as i64, image.taken.of), (frame, 5));
                seen.insert((clip, frame));
            }
        }
    }
    assert_eq!(seen.len(), 20);
    // A single clip provides its own frames; and the next epoch has other images.
    let alone = tempfile::tempdir().unwrap();
    gifs(alone.path(), 1, |_| 9);
    let batches = run(&with_images(&folder(alone.path()), None, 4), 1, Cursor::start(3), 2);
    assert_ne!(batches[0].images, batches[1].images);
}

#[test]
fn in_a_folder_of_images_every_still_is_one_and_every_frame_of_an_animation() {
    let (clips, stills) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    gifs(clips.path(), 2, |_| 5);
    let root = stills.path();
    // 0000.png and so on, numbers 100 to 102
    for k in 0..3u8 {
        let place = root.join(format!("{k}"));
        fs::create_dir(&place).unwrap();
        let files = write_frames(&place, &marked(100 + k, [1, 6, 8])).unwrap();
        fs::rename(&files[0], root.join(format!("{k}.png"))).unwrap();
        fs::remove_dir(&place).unwrap();
    }
    write_gif(&root.join("3.gif"), &marked(103, [2, 6, 8])).unwrap();
    fs::write(root.join("1.txt"), "the second").unwrap();
    fs::write(root.join("bad.png"), "not one").unwrap();
    let images = Folder::scan_images(root, &Captions::Beside, 1).unwrap();
    let names: Vec<_> = images.entries().iter().map(|entry| entry.name.clone()).collect();
    assert_eq!(names, ["0.png", "1.png", "2.png", "3.gif"].map(PathBuf::from));
    // As clips they are one of three frames, and an animation.
    assert_eq!(Folder::list(root).unwrap().entries().len(), 2);

    let seen = |source: Source| {
        let mut seen = BTreeSet::new();
        for batch in
            run(&with_images(&folder(clips.path()), Some(source), 5), 2, Cursor::start(3), 20)
        {
            for (k, images) in batch.images.iter().enumerate() {
                for (i, image) in images.iter().enumerate() {
                    let at = |c| batch.video.int64_value(&[k as i64, c, 4 + i as i64, 2, 3]);
                    assert_eq!(image.taken.start as i64, at(1));
                    let speed = image.row.as_ref().map(|row| row.number("speed").unwrap());
                    seen.insert((
                        at(0),
                        at(1),
                        image.caption.clone(),
                        speed.flatten().map(|s| s as i64),
                    ));
                }
            }
        }
        seen.into_iter().collect::<Vec<_>>()
    };
    let text = |text: &str| Some(text.to_owned());
    let beside = [(100, 0, None, None), (101, 0, text("the second"), None), (102, 0, None, None)];
    let moving = [(103, 0, None, None), (103, 1, None, None)];
    assert_eq!(seen(Source::folder(root)), [&beside[..], &moving].concat());
    let captions = table(root, "t.csv", "file,caption,speed\n2.png,last,4\n0.png,,5\n");
    let told = [(100, 0, None, Some(5)), (101, 0, None, None), (102, 0, text("last"), Some(4))];
    let source = Source::Folder { path: root.to_path_buf(), captions };
    assert_eq!(seen(source), [&told[..], &moving].concat());
}

#[test]
fn an_unreadable_image_gives_its_place_to_another_and_is_counted_once() {
    let (clips, stills) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    gifs(clips.path(), 3, |_| 5);
    let files = gifs(stills.path(), 4, |_| 6);
    cut(&files[1], 0.6);
    for workers in [0, 2] {
        let config = DataConfig { workers, max_bad_files: 1, ..folder(clips.path()) };
        let config = with_images(&config, Some(Source::folder(stills.path())), 4);
        let mut loader = Loader::new(&config, 3, Cursor::start(1)).unwrap();
        for _ in 0..6 {
            let batch = loader.next().unwrap();
            assert!(batch.images.iter().flatten().all(|i| i.caption.as_deref() != Some("clip 1")));
        }
        let bad: Vec<_> = loader.bad_files().iter().map(|bad| bad.path.clone()).collect();
        assert_eq!(bad, [files[1].clone()]);
        let strict = DataConfig { max_bad_files: 0, ..config };
        let mut loader = Loader::new(&strict, 3, Cursor::start(1)).unwrap();
        let error = (0..6).find_map(|_| loader.next().err()).unwrap().to_string();
        assert!(error.contains("max_bad_files = 0"), "{error}");
    }
    files.iter().for_each(|file| cut(file, 0.6));
    let config = with_images(&folder(clips.path()), Some(Source::folder(stills.path())), 1);
    let error = Loader::new(&config, 1, Cursor::start(1)).unwrap().next().unwrap_err().to_string();
    assert!(error.contains("100 randomly chosen files in a row"), "{error}");
}

#[test]
fn a_short_clip_is_padded_before_its_images_and_one_left_out_takes_none_with_it() {
    let dir = tempfile::tempdir().unwrap();
    gifs(dir.path(), 3, |k| 2 + 2 * usize::from(k));
    let config = with_images(&folder(dir.path()), None, 2);
    let batch = &run(&config, 3, Cursor::start(3), 1)[0];
    for k in 0..3 {
        let real = 2 + 2 * batch.video.int64_value(&[k, 0, 0, 0, 0]);
        let keep: Vec<bool> = Vec::try_from(batch.keep.as_ref().unwrap().get(k)).unwrap();
        let expected: Vec<bool> = (0..6).map(|f| f < real || f >= 4).collect();
        assert_eq!(keep, expected);
    }
    let skip = DataConfig { short: Short::Skip, ..config };
    let names: BTreeSet<_> =
        run(&skip, 2, Cursor::start(3), 3).iter().flat_map(|b| b.captions.clone()).collect();
    assert_eq!(names, ["clip 1", "clip 2"].map(|name| Some(name.to_owned())).into());
}

#[test]
fn one_frame_of_a_generated_clip_is_that_frame() {
    let generators: [Box<dyn Generator>; 2] =
        [Box::new(FireworksConfig::default()), Box::new(DigitsConfig::default())];
    for generator in generators {
        for index in 0..4 {
            let (clip, caption) = generator.clip(5, index, 6, [12, 10], 3).unwrap();
            for frame in 0..6 {
                let (one, same) = generator.frame(5, index, (frame, 6), [12, 10], 3).unwrap();
                assert_eq!((one, same), (clip.pick(&[frame]), caption.clone()));
            }
        }
    }
}

/// Counts the frames that it draws.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Generator for Counted {
    fn clip(
        &self,
        _: u64,
        index: u64,
        frames: usize,
        [h, w]: [usize; 2],
        channels: usize,
    ) -> Result<(Clip, String)> {
        self.0.fetch_add(frames, Ordering::Relaxed);
        let bytes = vec![index as u8; frames * h * w * channels];
        Ok((Clip::new(bytes, [frames, h, w, channels], 10.0)?, index.to_string()))
    }

    fn frame(
        &self,
        seed: u64,
        index: u64,
        (_, _): (usize, usize),
        size: [usize; 2],
        channels: usize,
    ) -> Result<(Clip, String)> {
        self.clip(seed, index, 1, size, channels)
    }
}

#[test]
fn each_image_costs_the_loader_one_frame_however_many_there_are() {
    let drawn = |k: usize| {
        let count = Arc::new(AtomicUsize::new(0));
        let config = DataConfig { frames: 7, workers: 0, ..DataConfig::default() };
        let config = if k > 0 { with_images(&config, None, k) } else { config };
        let dataset = Dataset::endless(&config, Box::new(Counted(Arc::clone(&count)))).unwrap();
        let mut loader = Loader::over(dataset, 3, Cursor::start(1)).unwrap();
        let batch = loader.next().unwrap();
        // No image comes from a clip that the run itself reaches.
        let numbers = batch.images.iter().flatten().map(|i| i.caption.clone().unwrap());
        assert!(numbers.map(|n| n.parse::<u64>().unwrap()).all(|n| n >= 1 << 40));
        count.load(Ordering::Relaxed)
    };
    for k in [0, 1, 4, 8, 64] {
        assert_eq!(drawn(k), 3 * (7 + k));
    }
}
