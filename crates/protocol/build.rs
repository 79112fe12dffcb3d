//! Compiles the schema in `proto/` with protox, so that no protoc is needed.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files = ["kith/v1/log.proto", "kith/v1/member.proto", "kith/v1/link.proto", "kith/content/v1/content.proto"];
    let set = protox::compile(files, [&root])?;
    prost_build::Config::new().bytes(["."]).compile_fds(set.clone())?;
    let mut json = pbjson_build::Builder::new();
    for file in set.file {
        json.register_file_descriptor(file);
    }
    json.build(&[".kith"])?;
    Ok(())
}
