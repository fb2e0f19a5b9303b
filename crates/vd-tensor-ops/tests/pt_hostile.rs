//! Checkpoints made to hurt: an error, never a panic, a full stack or memory without measure.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "fixtures/mod.rs"]
mod fixtures;
#[path = "fixtures/pickles.rs"]
mod pickles;

use std::fs;
use std::path::Path;

use fixtures::{floats, scratch};
use pickles::{Asm, archive, tensor, write_archive};
use vd_tensor_ops::Result;
use vd_tensor_ops::pt::{PtFile, Value};

fn open_pickle(pickle: &[u8]) -> Result<PtFile> {
    let folder = scratch();
    let path = folder.path().join("x.pt");
    write_archive(&path, "x/", pickle, &[("0", &[0; 64])]);
    PtFile::open(&path)
}

/// The error of a pickle, on a thread with the small stack that a library's caller may have.
fn refusal(pickle: Vec<u8>) -> String {
    let run = move || open_pickle(&pickle).expect_err("is refused").to_string();
    std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap()
}

#[test]
fn nesting_without_end_is_refused_in_every_kind_of_container() {
    let deep = 100_000;
    let wraps: [(&str, Asm, Asm); 6] = [
        ("list", Asm::new().op(b"]"), Asm::new().op(b"a")),
        ("tuple", Asm::new(), Asm::new().op(b"\x85")),
        ("dict", Asm::new().op(b"}K\x01"), Asm::new().op(b"s")),
        ("set", Asm::new().op(b"\x8f("), Asm::new().op(b"\x90")),
        ("arguments", Asm::new().global("a", "b"), Asm::new().op(b"\x85R")),
        ("state", Asm::new().global("a", "b").op(b")R"), Asm::new().op(b"b")),
    ];
    for (name, before, after) in wraps {
        let mut pickle = Asm::new();
        for _ in 0..deep {
            pickle = pickle.op(&before.0);
        }
        pickle = pickle.op(b"N");
        for _ in 0..deep {
            pickle = pickle.op(&after.0);
        }
        let message = refusal(pickle.stop());
        assert!(message.contains("nest more than 128 deep"), "{name}: {message}");
    }
}

#[test]
fn sharing_does_not_hide_depth_from_the_bound() {
    let nest = |mut asm: Asm, n| {
        for _ in 0..n {
            asm = asm.op(b"\x85");
        }
        asm
    };
    // A tuple of depth 100 is read first on its own, and then again below 100 others.
    let shared = |n| nest(nest(Asm::new().op(b")"), 100).op(b"q\x01h\x01"), n).op(b"\x86").stop();
    assert!(open_pickle(&shared(20)).is_ok());
    assert!(refusal(shared(100)).contains("nest more than 128 deep"));
}

#[test]
fn an_object_within_itself_is_refused() {
    let cycles: [&[u8]; 4] =
        [b"]q\x01h\x01a", b"}q\x01K\x01h\x01s", b"]q\x01h\x01\x85a", b"ca\nb\n)Rq\x01h\x01b"];
    for cycle in cycles {
        let message = refusal(Asm::new().op(cycle).stop());
        assert!(message.contains("contains itself"), "{message}");
    }
}

#[test]
fn doubling_a_hundred_times_costs_a_hundred_steps() {
    let mut pickle = Asm::new().op(b")q\x01");
    for _ in 0..100 {
        pickle = pickle.op(b"0h\x01h\x01\x86q\x01");
    }
    let file = open_pickle(&pickle.stop()).unwrap();
    assert_eq!(format!("{:?}", file.root()), "tuple of 2");
    let mut value: Value = file.root().clone();
    let mut depth = 0;
    while let Some([first, _]) = value.as_slice() {
        value = first.clone();
        depth += 1;
    }
    assert_eq!(depth, 100);
}

#[test]
fn floods_of_objects_references_and_copies_are_refused() {
    let list: Vec<u8> = Asm::new().op(b"](").op(&b"N".repeat(100_000)).op(b"eq\x01").0;
    let text = Asm::new().text(&"a".repeat(1_000_000)).op(b"q\x01");
    let floods = [
        ("objects", Asm::new().op(&b"N".repeat(5_000_000))),
        ("marks", Asm::new().op(&b"(".repeat(9_000_000))),
        ("references", Asm::new().op(b")q\x01").op(&b"h\x01".repeat(9_000_000))),
        ("memo", Asm::new().op(b")").op(&b"\x94".repeat(9_000_000))),
        ("duplicates", Asm::new().op(b")").op(&b"2".repeat(9_000_000))),
        ("sets", Asm::new().op(&list).op(&b"cbuiltins\nset\nh\x01\x85R".repeat(100))),
        ("bytes", text.op(b"c_codecs\nencode\nq\x02").op(&b"h\x02h\x01\x85R".repeat(1000))),
    ];
    for (name, pickle) in floods {
        let message = refusal(pickle.stop());
        assert!(message.contains("objects and references"), "{name}: {message}");
    }
    let message = refusal(vec![b'N'; (64 << 20) + 1]);
    assert!(message.contains("at most 67108864 are read"), "{message}");
}

#[test]
fn a_length_beyond_the_pickle_is_refused_before_it_is_believed() {
    let long = u64::MAX.to_le_bytes();
    let lengths: [(&[u8], &[u8]); 9] = [
        (b"\x8d", &long),
        (b"\x8e", &long),
        (b"\x96", &long),
        (b"\x95", &long),
        (b"X", &[0xff; 4]),
        (b"B", &[0xff; 4]),
        (b"T", &[0xff, 0xff, 0xff, 0x7f]),
        (b"\x8b", &[0xff, 0xff, 0xff, 0x7f]),
        (b"\x8a", &[0xff]),
    ];
    for (op, length) in lengths {
        let message = refusal(Asm::new().op(op).op(length).stop());
        assert!(message.contains("truncated"), "{op:?}: {message}");
    }
    let message = refusal(Asm::new().op(b"\x8b\xff\xff\xff\xff").stop());
    assert!(message.contains("a length of -1"), "{message}");
    // An index of the memo is no length: nothing is allocated for it.
    assert!(open_pickle(&Asm::new().op(b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff").stop()).is_ok());
}

#[test]
fn malformed_pickles_say_what_is_wrong_and_where() {
    let cases: [(&[u8], &str); 20] = [
        (b"", "the stack is empty"),
        (b"0N", "byte 1: the stack is empty"),
        (b"(N\x85", "there is trailing data"),
        (b"(\x85", "the stack is empty"),
        (b"t", "no mark on the stack"),
        (b"NN", "there is trailing data"),
        (b"(N", "there is trailing data"),
        (b"N.N", "there is trailing data"),
        (b"}(Nu", "a key without a value"),
        (b"NNa", "not a list or set"),
        (b"N(NNu", "not a dict"),
        (b"h\x07", "memo 7 is not set"),
        (b"\x80\x06N", "protocol 6, expected 2 to 5"),
        (b"I1\n", "pickle protocol 0"),
        (b"(iA\nB\n", "Python 2 class"),
        (b"\x82\x01", "extension registry"),
        (b"\x97", "a buffer outside"),
        (b"\xff", "opcode 0xff is not a pickle opcode"),
        (b"K\x01K\x02R", "not a tuple"),
        (b"X\x01\x00\x00\x00\xff", "not UTF-8"),
    ];
    for (pickle, want) in cases {
        let message = refusal(Asm::new().op(pickle).stop());
        assert!(message.contains(want), "{pickle:?}: {message}");
    }
}

/// Class and length of a storage; offset, sizes and strides of a tensor in it; the message.
type Misplaced<'a> = (&'a str, i64, i64, &'a [i64], &'a [i64], &'a str);

#[test]
fn tensors_that_do_not_lie_in_their_storage_are_refused() {
    // Storage "0" holds 64 bytes: 16 floats.
    let cases: [Misplaced<'_>; 13] = [
        ("FloatStorage", 16, 0, &[17], &[1], "reaches element 17 of storage `0`, which holds 16"),
        ("FloatStorage", 16, 9, &[2, 4], &[4, 1], "reaches element 17"),
        ("FloatStorage", 16, 16, &[], &[], "reaches element 17"),
        ("FloatStorage", 16, -1, &[2], &[1], "offset -1"),
        ("FloatStorage", 16, 0, &[-2], &[1], "shape [-2]"),
        ("FloatStorage", 16, 2, &[2], &[-1], "stride [-1]"),
        ("FloatStorage", 16, 0, &[2, 2], &[1], "stride [1]"),
        ("FloatStorage", 16, 0, &[1 << 40, 1 << 40], &[0, 0], "larger than any memory"),
        ("FloatStorage", 16, 0, &[0, i64::MAX, 2], &[1, 1, 1], "larger than any memory"),
        ("FloatStorage", 16, i64::MAX, &[2], &[i64::MAX], "larger than any memory"),
        ("FloatStorage", 16, 0, &[1 << 40], &[0], "repeated more than four times"),
        ("FloatStorage", 17, 0, &[1], &[1], "holds 16 elements, the pickle says 17"),
        ("DoubleStorage", 16, 0, &[1], &[1], "holds 8 elements, the pickle says 16"),
    ];
    for (class, numel, offset, shape, stride, want) in cases {
        let file = open_pickle(&tensor(class, "0", numel, offset, shape, stride).stop()).unwrap();
        let message = file.tensor(file.root().as_tensor().unwrap()).unwrap_err().to_string();
        assert!(message.contains(want), "{want}: {message}");
    }
    let file = open_pickle(&tensor("FloatStorage", "7", 16, 0, &[1], &[1]).stop()).unwrap();
    let message = file.tensor(file.root().as_tensor().unwrap()).unwrap_err().to_string();
    assert!(message.contains("storage `7` is not in the archive"), "{message}");
    let message = refusal(tensor("FloatStorage", "0", -1, 0, &[1], &[1]).stop());
    assert!(message.contains("a storage of -1 elements"), "{message}");
    let message = refusal(tensor("FloatStorage", "0", 16, 0, &[1; 65], &[1; 65]).stop());
    assert!(message.contains("without a storage, an offset"), "{message}");
}

#[test]
fn a_bool_that_is_neither_true_nor_false_is_refused() {
    let folder = scratch();
    let path = folder.path().join("x.pt");
    write_archive(
        &path,
        "x/",
        &tensor("BoolStorage", "0", 2, 0, &[2], &[1]).stop(),
        &[("0", &[1, 2])],
    );
    let file = PtFile::open(&path).unwrap();
    let message = file.tensor(file.root().as_tensor().unwrap()).unwrap_err().to_string();
    assert!(message.contains("a bool is 0 or 1, got 2"), "{message}");
}

/// A dict of `n` views over 4 MiB of storage, view `k` with one row less than the last.
fn many_views(n: i64, path: &Path) {
    let numel = 1 << 20;
    let mut pickle = Asm::new().op(b"}(");
    for k in 0..n {
        pickle = pickle.text(&format!("w{k}"));
        pickle = pickle.op(&tensor("FloatStorage", "0", numel, 0, &[numel - k], &[1]).0);
    }
    write_archive(path, "x/", &pickle.op(b"u").stop(), &[("0", &vec![0; 4 << 20])]);
}

#[test]
fn a_state_dict_copies_a_few_times_its_file_at_most() {
    let folder = scratch();
    let path = folder.path().join("x.pt");
    many_views(10, &path);
    let file = PtFile::open(&path).unwrap();
    assert_eq!(file.state_dict(file.root()).unwrap().len(), 10);
    many_views(40, &path);
    let file = PtFile::open(&path).unwrap();
    let message = file.state_dict(file.root()).unwrap_err().to_string();
    assert!(message.contains("repeated more than four times"), "{message}");
}

#[test]
fn tying_one_tensor_to_a_thousand_names_costs_one_tensor() {
    let folder = scratch();
    let path = folder.path().join("x.pt");
    let info = tensor("FloatStorage", "0", 1 << 20, 0, &[1 << 20], &[1]);
    let mut pickle = info.op(b"q\x010}(");
    for k in 0..1000 {
        pickle = pickle.text(&format!("w{k}")).op(b"h\x01");
    }
    write_archive(&path, "x/", &pickle.op(b"u").stop(), &[("0", &vec![0; 4 << 20])]);
    let file = PtFile::open(&path).unwrap();
    let tensors = file.state_dict(file.root()).unwrap();
    assert_eq!(tensors["w0"].data_ptr(), tensors["w999"].data_ptr());
}

/// Files by name.
type Files<'a> = &'a [(&'a str, &'a [u8])];

#[test]
fn the_folder_in_the_archive_may_have_any_name_but_there_is_one() {
    let folder = scratch();
    let path = folder.path().join("x.pt");
    for name in ["archive/", "model-10/", "a b/", "\u{3b5}/", "data.pkl/", ""] {
        write_archive(
            &path,
            name,
            &tensor("FloatStorage", "0", 2, 0, &[2], &[1]).stop(),
            &[("0", &[0; 8])],
        );
        let file = PtFile::open(&path).unwrap();
        assert_eq!(floats(&file.tensor(file.root().as_tensor().unwrap()).unwrap()), [0.0, 0.0]);
    }
    let refused: [(Files<'_>, &str); 5] = [
        (&[("a/data.pkl", b"N."), ("b/data.pkl", b"N.")], "more than one data.pkl"),
        (&[("a/b/data.pkl", b"N.")], "without data.pkl"),
        (&[("a/data.pkl", b"N."), ("a/byteorder", b"big")], "big-endian"),
        (&[("a/data.pkl", b"N."), ("a/byteorder", b"huge")], "neither little nor big"),
        (&[("a/data.pkl", b"N."), ("a/constants.pkl", b"N.")], "TorchScript"),
    ];
    for (files, want) in refused {
        fs::write(&path, archive(files)).unwrap();
        let message = PtFile::open(&path).unwrap_err().to_string();
        assert!(message.contains(want), "{message}");
    }
}

#[test]
fn names_of_the_file_do_not_reach_a_message_raw() {
    let name = format!("{}\u{1b}[31m", "x".repeat(10_000));
    let file = open_pickle(&Asm::new().op(b"}").text(&name).op(b"Ns").stop()).unwrap();
    let message = file.state_dict(file.root()).unwrap_err().to_string();
    assert!(message.len() < 500 && !message.contains('\u{1b}'), "{message}");
}
