//! Signals of the images beside clips.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};
use vd_data::{Batch, Cursor, Dataset, ImagesConfig, Loader, Source};
use vd_tensor_ops::video;
use vd_unet3d::Given;

use super::{SIGNALS, clips, config, rows};
use crate::signals::{Signal, check_signals};
use crate::streams::Place;
use crate::{RunConfig, Upsampling, known_part, low_resolution};

const AT: Place = Place { seed: 3, step: 5, micro: 0 };

/// A batch of nine clips with `k` images each, and its signals.
fn given(config: &RunConfig, k: usize) -> (Batch, BTreeMap<String, Given>) {
    let mut config = config.clone();
    config.data.images = (k > 0).then_some(ImagesConfig { source: None, per_clip: k });
    let dataset = Dataset::open(&config.data).unwrap();
    check_signals(&config, &dataset).unwrap();
    let batch = Loader::over(dataset, 9, Cursor::start(3)).unwrap().next().unwrap();
    let x0 = video::from_u8(&batch.video);
    let told = |signal: Signal| (signal.name.clone(), signal.given(&batch, &x0, AT).unwrap());
    let given = Signal::all(&config).into_iter().map(told).collect();
    (batch, given)
}

fn nulls(given: &Given) -> Vec<Vec<bool>> {
    let null = given.null.as_ref().unwrap();
    (0..null.size()[0]).map(|k| Vec::try_from(null.get(k)).unwrap()).collect()
}

#[test]
fn every_image_is_told_what_its_own_file_says_of_its_frame_and_the_clip_what_it_is_told_alone() {
    let dir = tempfile::tempdir().unwrap();
    clips(dir.path());
    let config = config(dir.path(), SIGNALS).resolved().unwrap();
    let (k, f) = (4, 3);
    let (_, alone) = given(&config, 0);
    let (batch, joint) = given(&config, k);
    for (name, given) in &joint {
        let own = &alone[name];
        let axis = if given.value.dim() == 5 { 2 } else { 1 };
        let first = given.value.narrow(axis, 0, f);
        let expected = match own.value.dim() < given.value.dim() {
            true => own.value.unsqueeze(1).expand(first.size(), false),
            false => own.value.shallow_clone(),
        };
        assert_eq!(first, expected, "{name}");
        for (row, own) in nulls(given).iter().zip(rows(own.null.as_ref().unwrap())) {
            assert!(row[..f as usize].iter().all(|null| f64::from(u8::from(*null)) == own[0]));
        }
    }
    let values: BTreeMap<_, _> = joint.iter().map(|(name, g)| (name.as_str(), &g.value)).collect();
    for b in 0..9 {
        for i in 0..k {
            let at = f + i as i64;
            // the grey of an image identifies clip and frame: 40 n + 5 k
            let grey = batch.video.get(b).get(0).get(at).get(0).int64_value(&[0]);
            let (n, frame) = ((grey / 40) as usize, (grey % 40 / 5) as f64);
            let null = |name: &str| nulls(&joint[name])[b as usize][at as usize];
            let told = |name: &str| {
                let value = values[name].get(b).get(at).to_kind(Kind::Double).view([-1]);
                (!null(name)).then(|| Vec::<f64>::try_from(value).unwrap())
            };
            assert_eq!(told("kind"), Some(vec![(n % 2) as f64]));
            let skies = [Some(vec![0.0]), Some(vec![1.0]), Some(vec![0.0]), None, None, None];
            assert_eq!(told("sky"), skies[n]);
            let speeds = [Some(vec![1.5]), Some(vec![-2.0]), None, Some(vec![0.25]), None, None];
            assert_eq!(told("speed"), speeds[n]);
            assert_eq!(told("pair"), (n == 0).then(|| vec![1.0, 2.0]));
            assert_eq!(told("height"), (n == 1).then(|| vec![5.0 - frame]));
            assert_eq!(told("at"), (n < 4).then(|| vec![n as f64, frame]));
        }
    }
    let x0 = video::from_u8(&batch.video);
    let low = low_resolution(&x0, 4, Upsampling::Bilinear).unwrap();
    assert_eq!(joint["low"].value, low);
    let known = joint["seen"].value.narrow(1, 3, 1);
    assert_eq!(joint["seen"].value, known_part(&x0, &known).unwrap());
    // A separate box in every image, drawn from its own stream, as are dropped images.
    let boxes = known.narrow(2, f, k as i64).flatten(0, 2).flatten(1, 2);
    let mut different: Vec<Vec<f64>> = rows(&boxes);
    different.sort_by(|a, b| a.partial_cmp(b).unwrap());
    different.dedup();
    assert!(different.len() > 20, "{}", different.len());
    let drawn: Vec<Vec<bool>> =
        nulls(&joint["low"]).iter().map(|row| row[f as usize..].to_vec()).collect();
    assert!(drawn.iter().any(|row| row.contains(&true) && row.contains(&false)));
}

#[test]
fn an_image_knows_no_first_frames_and_its_folder_adds_its_classes() {
    let (dir, stills) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    clips(dir.path());
    clips(stills.path());
    std::fs::rename(stills.path().join("dog"), stills.path().join("elk")).unwrap();
    let signals = "[model.signals]\nkind = { kind = \"class\" }\n\
                   seen = { kind = \"video\", channels = 4 }\n[signals]\n\
                   kind = { from = { kind = \"folder\" }, drop = 0 }\n\
                   seen = { from = { kind = \"masked\", first_frames = 2 }, drop = 0 }\n";
    let mut config = config(dir.path(), signals);
    let source = Some(Source::folder(stills.path()));
    config.data.images = Some(ImagesConfig { source, per_clip: 2 });
    let config = config.resolved().unwrap();
    let written = config.to_toml().unwrap();
    assert!(written.contains("classes = [\"cat\", \"dog\", \"elk\"]"), "{written}");
    let dataset = Dataset::open(&config.data).unwrap();
    let batch = Loader::over(dataset, 5, Cursor::start(3)).unwrap().next().unwrap();
    let x0 = video::from_u8(&batch.video);
    let [kind, seen] = Signal::all(&config).try_into().unwrap();
    let [kind, seen] = [kind, seen].map(|signal: Signal| signal.given(&batch, &x0, AT).unwrap());
    for b in 0..5usize {
        let classes: Vec<i64> = Vec::try_from(kind.value.get(b as i64)).unwrap();
        let number =
            |folder: &str| ["cat", "dog", "elk"].iter().position(|c| *c == folder).unwrap();
        let own = number(batch.folders[b].as_deref().unwrap());
        assert!(classes[..3].iter().all(|class| *class == own as i64));
        for (class, image) in classes[3..].iter().zip(&batch.images[b]) {
            assert_eq!(*class, number(image.folder.as_deref().unwrap()) as i64);
        }
        assert_eq!(nulls(&seen)[b], [false, false, false, true, true]);
    }
    let images = seen.value.narrow(2, 3, 2);
    assert_eq!(images.abs().max(), Tensor::from(0f32));
}
