//! The client builds for wasm32 from the first day. Where rustup has the target it is used; elsewhere Debian's rustc-web
//! and its sources make a private toolchain, once, in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::{cache_dir, cargo, command, has, run, target_dir};

const TARGET: &str = "wasm32-unknown-unknown";

/// Builds the wasm bridge, and with it the client's core.
pub fn check() -> Result<()> {
    let mut build = cargo(&["build", "--release", "-p", "kith-web", "--target", TARGET]);
    build.env("CARGO_TARGET_DIR", target_dir()?.join("wasm"));
    if !has_target()? && !add_target() {
        let toolchain = private_toolchain()?;
        build.env("RUSTC", toolchain.join("bin/rustc"));
        build.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", lld()?);
    }
    run(&mut build)
}

fn sysroot() -> Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().context("cannot run rustc")?;
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

fn has_target() -> Result<bool> {
    Ok(sysroot()?.join("lib/rustlib").join(TARGET).join("lib").exists())
}

fn add_target() -> bool {
    has("rustup", "--version") && command("rustup").args(["target", "add", TARGET]).status().is_ok_and(|status| status.success())
}

fn lld() -> Result<PathBuf> {
    Ok(sysroot()?.join("lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld"))
}

/// Debian's compiler for the web, with std built once from its sources. About 1 GB and two minutes.
fn private_toolchain() -> Result<PathBuf> {
    let dir = cache_dir()?.join("wasm-toolchain");
    let ready = dir.join("ready");
    if ready.exists() {
        return Ok(dir);
    }
    let _ = fs::remove_dir_all(&dir);
    for part in ["debs", "root", "bin", "std/src"] {
        fs::create_dir_all(dir.join(part))?;
    }
    let debs = dir.join("debs");
    run(command("apt-get").args(["update", "-qq"]))?;
    let std = depends("libstd-rust-web-dev", "libstd-rust-web-")?.context("Debian has no libstd-rust-web")?;
    let mut packages = vec!["rustc-web".to_owned(), "libstd-rust-web-dev".to_owned(), "rust-web-src".to_owned(), std.clone()];
    packages.extend(depends(&std, "libllvm")?);
    run(Command::new("apt-get").current_dir(&debs).args(["download", "-qq"]).args(&packages))?;
    for deb in fs::read_dir(&debs)? {
        run(Command::new("dpkg").arg("-x").arg(deb?.path()).arg(dir.join("root")))?;
    }
    let rustc = dir.join("bin/rustc");
    let lib = dir.join("root/usr/lib/x86_64-linux-gnu");
    let inner = dir.join("root/usr/bin/rustc");
    fs::write(&rustc, format!("#!/bin/sh\nLD_LIBRARY_PATH={} exec {} \"$@\"\n", lib.display(), inner.display()))?;
    run(command("chmod").arg("+x").arg(&rustc))?;
    build_std(&dir, &rustc)?;
    fs::write(ready, "")?;
    Ok(dir)
}

/// The newest dependency of a package whose name begins so.
fn depends(package: &str, prefix: &str) -> Result<Option<String>> {
    let output = Command::new("apt-cache").args(["depends", package]).output().context("cannot run apt-cache")?;
    let text = String::from_utf8(output.stdout)?;
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    Ok(names.filter(|name| name.starts_with(prefix) && *name != package).map(str::to_owned).next())
}

fn build_std(dir: &Path, rustc: &Path) -> Result<()> {
    let package = dir.join("std");
    fs::write(package.join("src/lib.rs"), "")?;
    fs::write(
        package.join("Cargo.toml"),
        "[package]\nname = \"stdbuild\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n[profile.release]\npanic = \"abort\"\n",
    )?;
    let mut build = Command::new("cargo");
    build.current_dir(&package).args(["build", "--release", "--target", TARGET, "-Zbuild-std=std,panic_abort"]);
    build.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Cembed-bitcode=yes -Zforce-unstable-if-unmarked");
    build.env("RUSTC", rustc).env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", lld()?);
    build.env("CARGO_TARGET_DIR", package.join("target"));
    run(&mut build)?;
    let to = dir.join("root/usr/lib/rustlib").join(TARGET).join("lib");
    fs::create_dir_all(&to)?;
    for file in fs::read_dir(package.join("target").join(TARGET).join("release/deps"))? {
        let file = file?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".rlib") && !name.starts_with("libstdbuild-") {
            fs::copy(&file, to.join(name))?;
        }
    }
    Ok(())
}
