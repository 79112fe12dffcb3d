//! Figures as they are told: JSON lines as they come, or one table at the end.

use serde_json::json;

/// One figure beside its budget.
pub struct Figure {
    pub bench: &'static str,
    pub case: &'static str,
    pub value: f64,
    pub unit: &'static str,
    pub goal: f64,
    /// The same of something bare, on this machine in this run.
    pub reference: Option<f64>,
    pub ok: bool,
}

impl Figure {
    /// A figure that must not be larger than its goal, whatever the machine.
    pub fn at_most(bench: &'static str, case: &'static str, value: f64, unit: &'static str, goal: f64) -> Self {
        Self { bench, case, value, unit, goal, reference: None, ok: value <= goal }
    }

    /// A figure whose goal was set on a machine where the reference was `bare`: it moves with the machine.
    pub fn relative(bench: &'static str, case: &'static str, value: f64, unit: &'static str, goal: f64, reference: f64, bare: f64) -> Self {
        Self { bench, case, value, unit, goal, reference: Some(reference), ok: value <= goal * reference / bare }
    }
}

pub struct Report {
    is_json: bool,
    figures: Vec<Figure>,
}

impl Report {
    pub fn new(is_json: bool) -> Self {
        Self { is_json, figures: Vec::new() }
    }

    pub fn add(&mut self, figure: Figure) {
        if self.is_json {
            let Figure { bench, case, value, unit, goal, reference, ok } = &figure;
            let line = json!({
                "bench": bench, "case": case, "value": rounded(*value), "unit": unit, "goal": goal,
                "reference": reference.map(rounded), "ok": ok,
            });
            println!("{line}");
        }
        self.figures.push(figure);
    }

    pub fn finish(self) {
        if self.is_json {
            return;
        }
        println!("{:<7} {:<24} {:>10} {:>10} {:>10}  {:<18} ok", "bench", "case", "value", "goal", "reference", "unit");
        for figure in &self.figures {
            let reference = figure.reference.map_or("-".to_owned(), |value| rounded(value).to_string());
            let ok = if figure.ok { "yes" } else { "NO" };
            let Figure { bench, case, unit, goal, .. } = figure;
            println!("{bench:<7} {case:<24} {:>10} {goal:>10} {reference:>10}  {unit:<18} {ok}", rounded(figure.value));
        }
    }
}

/// Digits that mean something.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
