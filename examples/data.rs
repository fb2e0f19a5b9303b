//! vd-data alone: writes clips to a folder and reads batches from it.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use vd_data::{
    Cursor, DataConfig, FireworksConfig, Loader, Source, dominant_colour, inspect, write_synthetic,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join("vd-fireworks");
    let source = Source::Fireworks(FireworksConfig { two_bursts: 0.0, ..Default::default() });
    let written = write_synthetic(&source, 1, 12, 8, [32, 32], &folder)?;
    println!("{} clips in {}", written.clips, written.out.display());

    let report = inspect(&folder)?;
    println!("captions: {}, such as {:?}", report.captions, report.caption_examples);

    let config = DataConfig {
        source: Source::folder(folder),
        frames: 4,
        size: [16, 16],
        stride: 2,
        ..DataConfig::default()
    };
    let mut loader = Loader::new(&config, 3, Cursor::start(5))?;
    for _ in 0..2 {
        let batch = loader.next()?;
        println!("{:?} {:?}", batch.video.size(), batch.captions);
    }
    // With the cursor alone, a loader continues from here, byte for byte.
    println!("{:?}", loader.cursor());

    let clip = vd_data::Generator::clip(&FireworksConfig::default(), 2, 0, 8, [16, 16], 3)?;
    println!("{:?} looks {:?}", clip.1, dominant_colour(&clip.0));
    Ok(())
}
