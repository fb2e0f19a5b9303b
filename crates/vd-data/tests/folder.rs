//! Listing folders and reporting on them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::{cut, gifs, huge_gif, marked};
use vd_data::{Error, Folder, inspect, write_gif};

/// A folder tree with every kind of content.
fn tree(root: &Path) {
    gifs(root, 2, |_| 5);
    fs::create_dir_all(root.join("sub/frames 1.5")).unwrap();
    fs::create_dir_all(root.join("sub/own")).unwrap();
    fs::create_dir_all(root.join(".cache")).unwrap();
    for k in 1..=11 {
        let image = image::RgbImage::from_pixel(6, 4, image::Rgb([k, 0, 0]));
        image.save(root.join(format!("sub/frames 1.5/{k}.png"))).unwrap();
        image.save(root.join(format!("sub/own/{k}.jpg"))).unwrap();
    }
    fs::write(root.join("sub/frames 1.5.txt"), "\u{feff}beside\n").unwrap();
    fs::write(root.join("sub/own/caption.txt"), "inside").unwrap();
    fs::write(root.join("sub/own.txt"), "not this one").unwrap();
    fs::write(root.join(".cache/x.gif"), "hidden").unwrap();
    fs::write(root.join("sub/film.mpg"), "another kind").unwrap();
    fs::write(root.join("1.txt"), "  \n").unwrap();
    symlink(root, root.join("sub/up")).unwrap();
    symlink(root.join("sub"), root.join("z again")).unwrap();
}

fn names(folder: &Folder) -> Vec<(String, Option<&str>)> {
    let name = |path: &PathBuf| path.to_string_lossy().into_owned();
    folder.entries().iter().map(|entry| (name(&entry.name), entry.caption.as_deref())).collect()
}

#[test]
fn a_tree_is_listed_once_in_order_with_its_captions() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let folder = Folder::scan(dir.path(), 0).unwrap();
    assert_eq!(
        names(&folder),
        [
            ("0.gif".to_owned(), Some("clip 0")),
            ("1.gif".to_owned(), None),
            ("sub/frames 1.5".to_owned(), Some("beside")),
            ("sub/own".to_owned(), Some("inside")),
        ]
    );
    assert_eq!(folder.other_files()["mpg"], 1);
}

#[test]
fn a_folder_of_frames_may_be_the_data_set_itself() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("film");
    fs::create_dir(&root).unwrap();
    image::RgbImage::new(4, 4).save(root.join("1.png")).unwrap();
    fs::write(dir.path().join("film.txt"), "outside of the data set").unwrap();
    let folder = Folder::scan(&root, 0).unwrap();
    assert_eq!(names(&folder), [("film".to_owned(), None)]);
}

#[test]
fn bad_files_are_left_out_up_to_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    gifs(dir.path(), 3, |_| 5);
    fs::write(dir.path().join("a.gif"), "").unwrap();
    fs::write(dir.path().join("b.gif"), "text").unwrap();
    huge_gif(&dir.path().join("c.gif"));
    symlink("nowhere", dir.path().join("d.gif")).unwrap();
    write_gif(&dir.path().join("e.gif"), &marked(1, [2, 2, 2])).unwrap();
    fs::write(dir.path().join("e.txt"), b"not \xff UTF-8").unwrap();
    let folder = Folder::scan(dir.path(), 5).unwrap();
    assert_eq!((folder.entries().len(), folder.bad_files().len()), (3, 5));
    let error = Folder::scan(dir.path(), 4).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::TooManyBadFiles { count: 5, max: 4, .. }));
    for name in ["a.gif", "b.gif", "c.gif", "d.gif", "e.txt", "max_bad_files = 4"] {
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn a_folder_without_clips_says_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let scan = || Folder::scan(dir.path(), 100).unwrap_err().to_string();
    assert!(scan().contains("found no file"), "{}", scan());
    fs::write(dir.path().join("film.mpg"), "film").unwrap();
    assert!(scan().contains("1 mpg"), "{}", scan());
    fs::write(dir.path().join("a.gif"), "film").unwrap();
    assert!(scan().contains("a.gif"), "{}", scan());
    let error = Folder::scan(&dir.path().join("none"), 100).unwrap_err();
    assert!(matches!(error, Error::Read { .. }));
    assert!(Folder::scan(&dir.path().join("a.gif"), 100).is_err());
}

#[test]
fn a_report_counts_what_can_be_read_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    for (k, f) in [(2u8, 9usize), (3, 7)] {
        write_gif(&dir.path().join(format!("{k}.gif")), &marked(k, [f, 6, 8])).unwrap();
    }
    // the header is valid, the rest is truncated
    cut(&dir.path().join("3.gif"), 0.6);
    let grey = vd_data::Clip::new(vec![9; 18], [2, 3, 3, 1], 25.0).unwrap();
    write_gif(&dir.path().join("4.gif"), &grey).unwrap();
    let report = inspect(dir.path()).unwrap();
    assert_eq!((report.clips, report.captions), (6, 3));
    let frames = report.frames.unwrap();
    assert_eq!((frames.min, frames.median, frames.max), (2.0, 5.0, 11.0));
    assert_eq!(report.fps.unwrap().max, 25.0);
    let sizes: Vec<_> = report.sizes.iter().map(|s| (s.h, s.w, s.clips)).collect();
    assert_eq!(sizes, [(6, 8, 3), (4, 6, 2), (3, 3, 1)]);
    assert_eq!((report.grey_clips, report.colour_clips), (1, 5));
    assert_eq!(report.caption_examples, ["clip 0", "beside", "inside"]);
    assert_eq!(report.bad_files.len(), 1);
    assert!(report.bad_files[0].path.ends_with("3.gif"));
    assert!(report.bytes > 500);
    let shown = report.to_string();
    for line in [
        "6 clips",
        "frames: 2 to 11, median 5",
        "fps: 10 to 25, median 10",
        "6 x 8 (3), 4 x 6 (2)",
        "captions: 3 of 6",
        "cannot be read: 1",
        "3.gif: damaged",
        "ignored: 1 mpg",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<vd_data::Report>(&text).unwrap(), report);
}

#[test]
fn a_report_on_an_empty_folder_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let report = inspect(dir.path()).unwrap();
    assert_eq!((report.clips, report.frames, report.bytes), (0, None, 0));
    assert!(inspect(&dir.path().join("none")).is_err());
}
