//! Sources of captions: tables and class folders.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;

use common::{captions, clips, read, table};
use vd_data::{Captions, Cursor, DataConfig, Folder, Loader, Source, Value, inspect_with};

#[test]
fn a_csv_may_have_marks_quotes_blank_lines_and_either_end_of_line() {
    let text = "\u{feff}speed, file ,caption,kind\r\n\r\n\
                 1.5,0.gif,\"a \"\"red\"\" one,\ntwo lines\",ab 1\r\n\
                   \r\n,./sub\\2\u{2c}x.gif,,\n";
    // the comma in the name requires quotes
    let text = text.replace("./sub\\2,x.gif", "\"./sub\\2,x.gif\"");
    let folder = read("t.csv", &text).unwrap();
    assert_eq!(captions(&folder), [Some("a \"red\" one,\ntwo lines"), None, None]);
    // the table itself does not count as a file of another kind
    assert!(folder.other_files().is_empty());
    let entries = folder.entries();
    let row = entries[0].row.as_ref().unwrap();
    assert_eq!(row.line, 3);
    assert_eq!(row.number("speed").unwrap(), Some(1.5));
    assert_eq!(row.name("kind").unwrap().as_deref(), Some("ab 1"));
    assert_eq!(row.number("other").unwrap(), None);
    let error = row.number("kind").unwrap_err().to_string();
    let expected = "t.csv, line 3, column `kind`: expected a number, found \"ab 1\"";
    assert!(error.ends_with(expected), "{error}");
    // with a table, caption files are not read
    assert!(entries[1].row.is_none());
    let last = entries[2].row.as_ref().unwrap();
    assert_eq!((last.line, last.columns.len()), (6, 0));
}

#[test]
fn json_lines_hold_numbers_text_and_lists() {
    let text = "\u{feff}{\"file\": \"1.gif\", \"caption\": \" one \", \"n\": 3, \"at\": [[1, 2], [3, 4.5]], \"v\": [7]}\r\n\n\
                {\"file\": \"0.gif\", \"caption\": null, \"yes\": true, \"empty\": \"\"}";
    let folder = read("t.jsonl", text).unwrap();
    assert_eq!(captions(&folder), [None, Some("one"), None]);
    let row = folder.entries()[1].row.as_ref().unwrap();
    assert_eq!(row.columns["n"], Value::Number(3.0));
    assert_eq!(row.name("n").unwrap().as_deref(), Some("3"));
    let list = Value::List { width: 2, numbers: vec![1.0, 2.0, 3.0, 4.5] };
    assert_eq!(row.columns["at"], list);
    assert_eq!(row.vector("v", 1).unwrap(), Some(&[7.0][..]));
    assert!(
        row.vector("at", 2).unwrap_err().to_string().contains("a list of 2 lists of 2 numbers")
    );
    assert!(row.list("n", 1).unwrap_err().to_string().contains("a list with a value for each"));
    assert!(row.list("at", 3).unwrap_err().to_string().contains("3 numbers per frame"));
    let other = folder.entries()[0].row.as_ref().unwrap();
    assert_eq!(other.columns.len(), 1);
    assert_eq!(other.name("yes").unwrap().as_deref(), Some("true"));
}

#[test]
fn quotes_inside_of_a_field_and_blanks_behind_it_are_no_open_quotes() {
    let folder = read("t.csv", "file,caption\n\"0.gif\" ,a 5\" wheel\n1.gif,\"b\" ").unwrap();
    assert_eq!(captions(&folder), [Some("a 5\" wheel"), Some("b"), None]);
}

#[test]
fn a_row_of_a_file_that_cannot_be_read_is_no_error_of_the_table() {
    let dir = tempfile::tempdir().unwrap();
    clips(dir.path());
    fs::write(dir.path().join("1.gif"), "broken").unwrap();
    let captions = table(dir.path(), "t.csv", "file\n0.gif\n1.gif\n");
    let folder = Folder::scan_with(dir.path(), &captions, 1).unwrap();
    assert_eq!((folder.entries().len(), folder.bad_files().len()), (2, 1));
}

#[test]
fn a_table_may_lie_elsewhere_and_name_folders_of_frames() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("videos");
    fs::create_dir_all(root.join("a/film 1")).unwrap();
    image::RgbImage::new(4, 4).save(root.join("a/film 1/1.png")).unwrap();
    fs::write(root.join("a/film 1/caption.txt"), "not this one").unwrap();
    fs::write(dir.path().join("t.jsonl"), "{\"file\": \"a\\\\film 1/\", \"caption\": \"this\"}")
        .unwrap();
    for path in ["../t.jsonl".into(), dir.path().join("t.jsonl")] {
        let folder = Folder::scan_with(&root, &Captions::Table(path), 0).unwrap();
        assert_eq!(captions(&folder), [Some("this")]);
    }
}

#[test]
fn a_report_has_the_columns_of_the_table() {
    let dir = tempfile::tempdir().unwrap();
    clips(dir.path());
    let text = "file,caption,speed,kind\n0.gif,a,1.5,x\n1.gif,b,4.5,2\n\"sub/2,x.gif\",,,2\n";
    let captions = table(dir.path(), "t.csv", text);
    let report = inspect_with(dir.path(), &captions).unwrap();
    assert_eq!((report.clips, report.captions), (3, 2));
    let shown: Vec<_> = report.columns.iter().map(ToString::to_string).collect();
    let speed = "speed (2 clips): numbers, mean 3.000000, std 1.500000";
    assert_eq!(shown, ["kind (3 clips): text, 2 different", speed]);
    assert!(report.to_string().contains(&format!("column {speed}\n")));
    assert!(inspect_with(dir.path(), &Captions::Beside).unwrap().columns.is_empty());
}

#[test]
fn the_folder_that_a_clip_lies_in_is_its_class_and_its_caption() {
    let dir = tempfile::tempdir().unwrap();
    clips(dir.path());
    fs::create_dir_all(dir.path().join("x/red-dog_2/film")).unwrap();
    image::RgbImage::new(4, 4).save(dir.path().join("x/red-dog_2/film/1.png")).unwrap();
    let folder = Folder::scan_with(dir.path(), &Captions::Folders, 0).unwrap();
    let classes: Vec<_> = folder.entries().iter().map(|entry| entry.folder()).collect();
    assert_eq!(classes, [None, None, Some("sub"), Some("red-dog_2")]);
    assert_eq!(captions(&folder), [None, None, Some("sub"), Some("red dog 2")]);
}

#[test]
fn a_series_is_cut_with_the_clip_that_a_batch_holds() {
    let dir = tempfile::tempdir().unwrap();
    clips(dir.path());
    let text: String = [("0.gif", 5), ("1.gif", 5)]
        .map(|(file, n)| {
            let rows: Vec<_> = (0..n).map(|k| format!("[{k}, -{k}]")).collect();
            format!("{{\"file\": \"{file}\", \"at\": [{}]}}\n", rows.join(", "))
        })
        .concat();
    let config = |frames, stride| DataConfig {
        source: Source::Folder {
            path: dir.path().to_path_buf(),
            captions: table(dir.path(), "t.jsonl", &text),
        },
        frames,
        stride,
        size: [6, 8],
        workers: 1,
        ..DataConfig::default()
    };
    let mut starts = std::collections::BTreeSet::new();
    for (frames, stride) in [(2, 1), (2, 2), (3, 2), (4, 3)] {
        let mut loader = Loader::new(&config(frames, stride), 3, Cursor::start(4)).unwrap();
        for _ in 0..8 {
            let batch = loader.next().unwrap();
            for k in 0..3 {
                let taken = batch.taken[k];
                assert_eq!((taken.stride, taken.of), (stride, 5));
                starts.insert(taken.start);
                assert_eq!(batch.folders[k].as_deref() == Some("sub"), batch.rows[k].is_none());
                let Some(row) = &batch.rows[k] else { continue };
                let series = row.series("at", 2, &taken, frames).unwrap().unwrap();
                // the green of a clip is the index of the frame in its file
                let green = batch.video.get(k as i64).get(1).select(1, 0).select(1, 0);
                let seen: Vec<f64> = Vec::try_from(green.to_kind(tch::Kind::Double)).unwrap();
                let expected: Vec<f64> = seen.iter().flat_map(|n| [*n, -n]).collect();
                assert_eq!(series, expected);
            }
        }
    }
    assert!(starts.len() > 2, "{starts:?}");
}

#[test]
fn a_series_that_has_not_one_value_for_each_frame_is_refused_by_its_row() {
    let text = "{\"file\": \"0.gif\", \"at\": [1, 2, 3, 4], \"more\": [1, 2, 3, 4, 5, 6]}";
    let folder = read("t.jsonl", text).unwrap();
    let row = folder.entries()[0].row.as_ref().unwrap();
    let sample = {
        let dir = tempfile::tempdir().unwrap();
        clips(dir.path());
        let config = DataConfig { frames: 2, ..DataConfig::default() };
        let config = DataConfig { source: Source::folder(dir.path()), ..config };
        vd_data::Dataset::open(&config).unwrap().sample(1, 0, 0).unwrap().unwrap()
    };
    for (column, rows) in [("at", 4), ("more", 6)] {
        let error = row.series(column, 1, &sample.taken, 2).unwrap_err().to_string();
        let expected = format!(
            "line 1, column `{column}`: expected a value for each of the 5 frames of the file, \
             found {rows} values"
        );
        assert!(error.contains(&expected), "{error}");
    }
    assert_eq!(row.series("none", 1, &sample.taken, 2).unwrap(), None);
}

#[test]
fn numbers_are_finite_in_single_precision_in_either_format() {
    let folder = read("t.csv", "file,a,b,c\n0.gif,1e39,1e38,nan\n").unwrap();
    let row = folder.entries()[0].row.as_ref().unwrap();
    assert_eq!(row.number("b").unwrap(), Some(1e38));
    for column in ["a", "c"] {
        let error = row.number(column).unwrap_err().to_string();
        assert!(
            error.contains(&format!("line 2, column `{column}`: expected a number")),
            "{error}"
        );
    }
    let error = read("t.jsonl", "{\"file\": \"0.gif\", \"a\": 1e39}").unwrap_err();
    assert!(error.contains("line 1, column `a`"), "{error}");
}
