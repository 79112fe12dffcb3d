//! Writes what the fuzzers begin from, beside the files in `seeds/`: a folder for each target, below the one that is named.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).expect("a folder"));
    let golden = kith_fuzz::golden::seeds();
    let device = kith_fuzz::device::Device::real().seeds.map(|(name, bytes)| ("device_group", name, bytes));
    for (target, name, bytes) in golden.into_iter().chain(device) {
        std::fs::create_dir_all(folder.join(target))?;
        std::fs::write(folder.join(target).join(name), bytes)?;
    }
    Ok(())
}
