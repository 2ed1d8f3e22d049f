//! Writes the seeds of a target into a directory: `seeds TARGET DIRECTORY EXPORT...`.

use std::{env, fs, path::Path};

use causeway_fuzz::{encrypted, export};

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let [_, target, directory, exports @ ..] = arguments.as_slice() else {
        panic!("seeds TARGET DIRECTORY EXPORT...")
    };
    let seeds = match target.as_str() {
        "export" => export::seeds,
        "encrypted" => encrypted::seeds,
        other => panic!("there is no target {other}"),
    };
    fs::create_dir_all(directory).expect("the directory can be made");
    for (number, name) in exports.iter().enumerate() {
        let bytes = fs::read(name).expect("the export can be read");
        for (index, seed) in seeds(&bytes).iter().enumerate() {
            let path = Path::new(directory).join(format!("seed-{number}-{index}"));
            fs::write(path, seed).expect("the seed can be written");
        }
    }
}
