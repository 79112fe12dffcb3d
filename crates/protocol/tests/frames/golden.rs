//! Golden bytes of every form, in `golden/`: a section for each sample, its fields one by one as `proto/` numbers them.
//!
//! `XX*N` stands for a byte N times, `#` begins a comment, and a line that begins with `json` is the JSON of the frame.
//! Nothing writes these files but people: bytes that were ever spoken or stored stay readable, so a changed section is
//! a decision. A test that fails shows the section as the code has it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::forms::{Form, JsonForm};
use crate::samples::{self, Samples};

struct Section<'a> {
    name: &'a str,
    bytes: Vec<u8>,
    json: Option<&'a str>,
}

fn read(file: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in file.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push(Section { name, bytes: Vec::new(), json: None });
        } else if let Some(json) = line.strip_prefix("json ") {
            sections.last_mut().unwrap().json = Some(json);
        } else {
            let tokens = line.split('#').next().unwrap().split_whitespace();
            tokens.for_each(|token| sections.last_mut().unwrap().bytes.extend(parse(token)));
        }
    }
    sections
}

fn parse(token: &str) -> Vec<u8> {
    let (hex, times) = token.split_once('*').map_or((token, 1), |(hex, times)| (hex, times.parse().unwrap()));
    assert!(hex.len().is_multiple_of(2), "half a byte: {token}");
    let once: Vec<u8> = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    once.repeat(times)
}

/// As it would stand in the file, but for the fields' names.
fn written(name: &str, bytes: &[u8], json: Option<&str>) -> String {
    let mut out = format!("[{name}]\n");
    for run in bytes.chunk_by(|a, b| a == b) {
        match run.len() {
            1..4 => run.iter().for_each(|byte| write!(out, "{byte:02x}").unwrap()),
            n => writeln!(out, " {:02x}*{n}", run[0]).unwrap(),
        }
    }
    json.map_or(out.clone(), |json| format!("{out}\njson {json}"))
}

fn check<T: Form>(file: &str, samples: &Samples<T>, json: impl Fn(&T) -> Option<String>) {
    let sections = read(file);
    let names = |names: &mut dyn Iterator<Item = &'static str>| names.collect::<BTreeSet<_>>();
    let sampled = names(&mut samples.iter().map(|(_, value)| value.name()));
    assert_eq!(sampled, names(&mut T::NAMES.iter().copied()), "each variant has a sample");
    for (name, value) in samples {
        assert_eq!(name.split('.').next().unwrap(), value.name());
        let (bytes, json) = (value.encode(), json(value));
        let shown = written(name, &bytes, json.as_deref());
        let section = sections.iter().find(|section| section.name == *name);
        let section = section.unwrap_or_else(|| panic!("no golden section; the code has\n{shown}"));
        assert!(section.bytes == bytes && section.json == json.as_deref(), "not the golden bytes; the code has\n{shown}");
        assert_eq!(T::decode(&section.bytes).as_ref(), Ok(value), "{name} decodes");
    }
    let listed: Vec<_> = sections.iter().map(|section| section.name).collect();
    let expected: Vec<_> = samples.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed, expected, "the file has the samples' sections, in their order, each once");
}

fn check_binary<T: Form>(file: &str, samples: &Samples<T>) {
    check(file, samples, |_| None);
}

fn check_both<T: JsonForm>(file: &str, samples: &Samples<T>) {
    check(file, samples, |value| Some(value.to_json()));
    for (name, value) in samples {
        assert_eq!(T::from_json(value.to_json().as_bytes()).as_ref(), Ok(value), "{name} decodes from JSON");
    }
}

macro_rules! golden {
    ($($form:ident: $check:ident),+ $(,)?) => {
        $(#[test]
        fn $form() {
            $check(include_str!(concat!("golden/", stringify!($form), ".txt")), &samples::$form());
        })+
    };
}

golden! {
    to_server: check_both,
    to_member: check_both,
    link: check_binary,
    content: check_binary,
    franked: check_binary,
    room_context: check_binary,
    creation: check_binary,
    creation_body: check_binary,
    admission: check_binary,
    leaf_certificate: check_binary,
    room_snapshot: check_binary,
    group_snapshot: check_binary,
    stored_docket: check_binary,
    stored_attestation: check_binary,
    agreement_record: check_binary,
    stored_vote: check_binary,
    succession: check_binary,
    proof: check_binary,
}
