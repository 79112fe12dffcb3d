//! `kithd neighbour`: who the neighbours are and what is agreed with them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use kith_protocol::agreement::Agreement;
use kith_protocol::ids::{CoopName, PublicKey, from_hex};
use kith_protocol::sign::Signature;
use kith_relay::admin::{Answer, NeighbourLine, NeighbourView, NoticeView, SignedView, Wire};
use kith_relay::config::Folder;
use kith_relay::terms::TermsFile;
use serde_json::json;

use super::ask;

#[derive(Subcommand)]
pub enum Neighbour {
    /// Print this co-op's name and root key, for a neighbour's steward.
    Key {
        folder: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// Agree with a neighbour. Traffic starts once both sides have added each other, with the same terms.
    Add {
        folder: PathBuf,
        /// The neighbour's domain.
        name: CoopName,
        /// HOST:PORT of its link.
        address: String,
        /// Its root key, as `kithd neighbour key` printed it there.
        key: String,
        /// A file of terms (TOML). Without it: every shared room, usual limits.
        #[arg(long)]
        terms: Option<PathBuf>,
        /// Pin this key in place of another one. What was agreed under that is void.
        #[arg(long)]
        replace: bool,
        /// Print the result as one object of JSON: `name`, `done`, `state`, `effective`.
        #[arg(long)]
        json: bool,
    },
    /// List the neighbours and whether their links are up.
    List {
        folder: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// Show one agreement: terms, signatures, proposals, notices.
    Show {
        folder: PathBuf,
        name: CoopName,
        #[arg(long)]
        json: bool,
    },
    /// Propose other terms. What is in force stays so until the neighbour has accepted.
    Propose {
        folder: PathBuf,
        name: CoopName,
        /// A file of terms (TOML); what is left out has its default.
        #[arg(long)]
        terms: PathBuf,
        /// Print the result as one object of JSON: `name`, `done`, `state`, `effective`.
        #[arg(long)]
        json: bool,
    },
    /// Accept what the neighbour has proposed, and show what changes.
    Accept {
        folder: PathBuf,
        name: CoopName,
        /// Print the result as one object of JSON: `name`, `done`, `state`, `effective`.
        #[arg(long)]
        json: bool,
    },
    /// Stop all traffic with a neighbour at once, until `resume`.
    Suspend {
        folder: PathBuf,
        name: CoopName,
        /// The neighbour's steward sees it.
        #[arg(long)]
        reason: String,
        /// Print the result as one object of JSON: `name`, `done`, `state`, `effective`.
        #[arg(long)]
        json: bool,
    },
    /// Take back a suspension, or an end that has not taken effect.
    Resume {
        folder: PathBuf,
        name: CoopName,
        /// Print the result as one object of JSON: `name`, `done`, `state`, `effective`.
        #[arg(long)]
        json: bool,
    },
    /// End the agreement, after the notice that it asks for.
    End {
        folder: PathBuf,
        name: CoopName,
        /// The neighbour's steward sees it.
        #[arg(long)]
        reason: String,
        /// Print the result as one object of JSON: `name`, `done`, `state`, `effective`.
        #[arg(long)]
        json: bool,
    },
    /// Check the signatures of an agreement that `show --json` printed. Needs no co-op.
    Verify {
        file: PathBuf,
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(command: Neighbour) -> anyhow::Result<()> {
    match command {
        Neighbour::Key { folder, json } => print_key(&folder, json),
        Neighbour::Add { folder, name, address, key, terms, replace, json } => {
            add(&folder, &name, address, &key, terms, replace).await?;
            tell(&folder, &name, Done::Added, json).await
        }
        Neighbour::List { folder, json } => {
            let Answer::Neighbours(list) = ask(&folder, Wire::Neighbours).await? else { bail!("the server gave no list") };
            list.iter().try_for_each(|line| print_line(line, json))
        }
        Neighbour::Show { folder, name, json } => {
            let shown = show(&folder, &name).await?;
            if json {
                crate::commands::line!("{}", serde_json::to_string(&shown)?);
            } else {
                crate::commands::text!("{}", render(&shown));
            }
            Ok(())
        }
        Neighbour::Propose { folder, name, terms, json } => {
            ask(&folder, Wire::Propose { name: name.to_string(), terms: read_terms(&terms)? }).await?;
            tell(&folder, &name, Done::Proposed, json).await
        }
        Neighbour::Accept { folder, name, json } => accept(&folder, &name, json).await,
        Neighbour::Suspend { folder, name, reason, json } => {
            ask(&folder, Wire::Suspend { name: name.to_string(), reason }).await?;
            tell(&folder, &name, Done::Suspended, json).await
        }
        Neighbour::Resume { folder, name, json } => {
            ask(&folder, Wire::Resume { name: name.to_string() }).await?;
            tell(&folder, &name, Done::Resumed, json).await
        }
        Neighbour::End { folder, name, reason, json } => {
            ask(&folder, Wire::End { name: name.to_string(), reason }).await?;
            tell(&folder, &name, Done::Ended, json).await
        }
        Neighbour::Verify { file, json } => verify(&file, json),
    }
}

fn print_key(folder: &Path, json: bool) -> anyhow::Result<()> {
    let coop = Folder::open(folder)?.root;
    let key = format!("ed25519:{}", coop.key);
    if json {
        crate::commands::line!("{}", json!({ "name": coop.name.as_str(), "key": key }))
    } else {
        crate::commands::line!("{} {key}", coop.name)
    }
    Ok(())
}

async fn add(folder: &Path, name: &CoopName, address: String, key: &str, terms: Option<PathBuf>, replace: bool) -> anyhow::Result<()> {
    let key = parse_key(key)?.to_string();
    if !address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
        bail!("the address of a link is HOST:PORT, such as 127.0.0.1:7412");
    }
    let terms = terms.map(|file| read_terms(&file)).transpose()?;
    ask(folder, Wire::AddNeighbour { name: name.to_string(), key, address, terms, replace }).await?;
    Ok(())
}

fn read_terms(file: &Path) -> anyhow::Result<TermsFile> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let terms = TermsFile::parse(&text)?;
    // Mistakes are named before anybody is asked.
    terms.clone().into_terms()?;
    Ok(terms)
}

/// `ed25519:HEX`, or what `neighbour key` prints whole.
fn parse_key(text: &str) -> anyhow::Result<PublicKey> {
    let key = text.split_whitespace().next_back().unwrap_or_default();
    key.strip_prefix("ed25519:")
        .and_then(|hex| hex.parse().ok())
        .context("a root key looks like ed25519: and 64 hexadecimal digits, as `kithd neighbour key` prints it")
}

fn print_line(line: &NeighbourLine, json: bool) -> anyhow::Result<()> {
    if json {
        crate::commands::line!("{}", serde_json::to_string(line)?);
        return Ok(());
    }
    let link = if line.up { "up" } else { "down" };
    let state = match line.state.as_str() {
        "proposed" => "waiting for both stewards to agree",
        "active" => link,
        "due_for_review" if line.up => "up, due for review",
        "due_for_review" => "down, due for review",
        other => other,
    };
    crate::commands::line!("{} {} {} {state}", line.name, line.address, line.key);
    Ok(())
}

async fn show(folder: &Path, name: &CoopName) -> anyhow::Result<NeighbourView> {
    match ask(folder, Wire::ShowNeighbour { name: name.to_string() }).await? {
        Answer::Neighbour(shown) => Ok(*shown),
        _ => bail!("the server did not show it"),
    }
}

/// What a command has brought about.
#[derive(Clone, Copy)]
enum Done {
    Added,
    Proposed,
    Accepted,
    /// Everything that the neighbour proposed is signed here already.
    NothingToAccept,
    Suspended,
    Resumed,
    Ended,
}

impl Done {
    /// For scripts: these words never change.
    fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Proposed => "proposed",
            Self::Accepted => "accepted",
            Self::NothingToAccept => "nothing_to_accept",
            Self::Suspended => "suspended",
            Self::Resumed => "resumed",
            Self::Ended => "ended",
        }
    }

    fn text(self, folder: &Path, name: &CoopName, effective: &str) -> String {
        match self {
            Self::Added => format!("{name} is added. Traffic starts once both stewards have added each other's co-op."),
            Self::Proposed => {
                format!("Proposed. It takes effect once the steward of {name} has accepted it, or proposes the same.")
            }
            Self::Accepted => "Accepted.".to_owned(),
            Self::NothingToAccept => {
                format!("Nothing waits for an answer: {name} has proposed nothing that this co-op has not signed.")
            }
            Self::Suspended => format!("{name} is suspended. Take it back: kithd neighbour resume {} {name}", folder.display()),
            Self::Resumed => format!("The agreement with {name} goes on, unless that side has suspended it too."),
            Self::Ended => format!("The agreement with {name} ends {effective}."),
        }
    }
}

/// Says what was done, and how the agreement stands now.
async fn tell(folder: &Path, name: &CoopName, done: Done, json: bool) -> anyhow::Result<()> {
    let shown = show(folder, name).await?;
    let effective = shown.notice_here.filter(|notice| notice.standing != "open").map(|notice| notice.effective);
    if json {
        crate::commands::line!("{}", json!({ "name": name.as_str(), "done": done.as_str(), "state": shown.state, "effective": effective }));
    } else {
        crate::commands::line!("{}", done.text(folder, name, &effective.unwrap_or_default()));
    }
    Ok(())
}

async fn accept(folder: &Path, name: &CoopName, json: bool) -> anyhow::Result<()> {
    let shown = show(folder, name).await?;
    let Some(document) = shown.proposed_there else {
        if shown.signed.is_some() && shown.state != "ended" {
            return tell(folder, name, Done::NothingToAccept, json).await;
        }
        bail!("{name} has proposed nothing yet. It can once it has added this co-op and a link has come up");
    };
    if !json {
        crate::commands::text!("{}", diff(shown.signed.as_ref().map_or("", |signed| &signed.document), &document));
    }
    ask(folder, Wire::Accept { name: name.to_string(), document }).await?;
    tell(folder, name, Done::Accepted, json).await
}

/// What goes and what comes, line by line; what stays is not shown.
fn diff(old: &str, new: &str) -> String {
    let only = |here: &str, there: &str, sign: char| -> String {
        here.lines().filter(|line| there.lines().all(|other| other != *line)).map(|line| format!("{sign} {line}\n")).collect()
    };
    only(old, new, '-') + &only(new, old, '+')
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

fn notice(who: &str, notice: &NoticeView) -> String {
    let reason = if notice.reason.is_empty() { String::new() } else { format!(": {}", notice.reason) };
    let from = if notice.effective == notice.at { String::new() } else { format!(", from {}", notice.effective) };
    format!("{who} said at {} that it is {}{from}{reason}\n", notice.at, notice.standing)
}

fn render(shown: &NeighbourView) -> String {
    let mut text = format!("{} {}\n{}\n", shown.name, shown.key, shown.address);
    let link = if shown.up { "up" } else { "down" };
    text += &format!("agreement: {}, link {link}\n", shown.state.replace('_', " "));
    if let Some(said) = &shown.notice_here {
        text += &notice("this co-op", said);
    }
    if let Some(said) = &shown.notice_there {
        text += &notice(&shown.name, said);
    }
    if let Some(signed) = &shown.signed {
        text += &format!("\nsigned by both since {}:\n{}", signed.since, indent(&signed.document));
        for signature in &signed.signatures {
            text += &format!("    signature of {} {}\n", signature.name, signature.signature);
        }
    }
    let signed = shown.signed.as_ref().map_or("", |signed| &signed.document);
    if let Some(proposed) = &shown.proposed_here {
        text += &format!("\nproposed here, waiting for {}:\n{}", shown.name, indent(&diff(signed, proposed)));
    }
    if let Some(proposed) = &shown.proposed_there {
        text += &format!("\nproposed by {0}; to accept it: kithd neighbour accept … {0}\n{1}", shown.name, indent(&diff(signed, proposed)));
    }
    text
}

/// Both signatures over the document's own keys. Whose keys they are, the reader must know.
fn check(signed: &SignedView) -> anyhow::Result<Agreement> {
    let agreement = Agreement::parse(signed.document.as_bytes())?;
    for party in agreement.parties() {
        let found = signed.signatures.iter().find(|signature| signature.name == party.name.as_str());
        let signature = found.with_context(|| format!("{} has not signed it", party.name))?;
        let signature = Signature(from_hex(&signature.signature).with_context(|| format!("the signature of {}", party.name))?);
        agreement.verify(&party.key, &signature).with_context(|| format!("the signature of {} does not verify", party.name))?;
    }
    Ok(agreement)
}

fn verify(file: &Path, json: bool) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let shown: NeighbourView = serde_json::from_str(&text).context("this is not what `kithd neighbour show --json` prints")?;
    let agreement = check(shown.signed.as_ref().context("nothing is signed by both")?)?;
    let parties: Vec<_> = agreement.parties().iter().map(|party| format!("{} ed25519:{}", party.name, party.key)).collect();
    if json {
        crate::commands::line!("{}", json!({ "ok": true, "parties": parties }));
    } else {
        crate::commands::line!("Both signatures hold. They are by the holders of these keys:\n{}", parties.join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_shows_what_goes_and_what_comes() {
        assert_eq!(diff("a\nb\nc\n", "a\nB\nc\nd\n"), "- b\n+ B\n+ d\n");
        assert_eq!(diff("", "a\n"), "+ a\n");
        assert_eq!(diff("a\n", "a\n"), "");
    }
}
