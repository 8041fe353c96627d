//! The report and its pictures, from a sample that is made up and from hostile variants of it.

mod markup;
mod real;
mod sample;

use std::path::PathBuf;

use doodl3::artifact::Artifact;
use doodl3::engine::dynamics::{Continuation, Refinement};
use doodl3::engine::surrogate::EmptyBox;
use doodl3::engine::{
    Analysis, Comparison, DataParameters, GridParameters, MapChoice, Parameters, Rebasing, Since,
    Subdivisions, SurrogateParameters, Trajectory,
};
use doodl3::render::{AnalysisDocument, Group, ReportInput, RunState, RunView, artifacts, summary, texts};

use crate::engine_analyze;

use markup::Markup;
use sample::{Size, report};

/// Renders, checks what must hold of every report, and leaves the files where a person can look at them:
/// `target/tmp/report/NAME/`.
fn render(name: &str, input: &ReportInput) -> Rendered {
    let artifacts = artifacts(input).unwrap();
    let folder: PathBuf = [env!("CARGO_TARGET_TMPDIR"), "report", name].iter().collect();
    std::fs::create_dir_all(&folder).unwrap();
    for artifact in &artifacts {
        std::fs::write(folder.join(&artifact.name), &artifact.bytes).unwrap();
    }
    let rendered = Rendered(artifacts);
    for artifact in &rendered.0 {
        if artifact.media_type.contains("svg") || artifact.media_type.contains("html") {
            check_markup(&artifact.name, rendered.text(&artifact.name));
        }
        assert!(artifact.bytes.len() < 1_000_000 || artifact.name == "analysis.json", "{}", artifact.name);
    }
    rendered
}

struct Rendered(Vec<Artifact>);

impl Rendered {
    fn text(&self, name: &str) -> &str {
        let artifact = self.0.iter().find(|artifact| artifact.name == name).unwrap();
        std::str::from_utf8(&artifact.bytes).unwrap()
    }

    fn names(&self) -> Vec<&str> {
        self.0.iter().map(|artifact| artifact.name.as_str()).collect()
    }

    /// What the page says, without its mark-up.
    fn words(&self) -> String {
        Markup::parse(self.text("report.html")).unwrap().text
    }
}

/// Well-formed, without scripts, and without anything that would be fetched.
fn check_markup(name: &str, text: &str) {
    let markup = Markup::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    for (tag, attributes) in &markup.elements {
        assert!(
            !["script", "link", "img", "iframe", "object", "embed", "image", "use"].contains(&tag.as_str()),
            "{tag}"
        );
        for (attribute, value) in attributes {
            assert!(
                !attribute.starts_with("on") && attribute != "src" && attribute != "style",
                "{attribute}"
            );
            assert!(attribute != "href" || value.starts_with('#'), "{value}");
            assert!(!value.contains("url(") || value.starts_with("url(#"), "{value}");
        }
    }
    let mut ids: Vec<&str> = markup.values("id").collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "{name} has an id twice");
    for value in markup.values("fill").chain(markup.values("clip-path")) {
        let target = value.strip_prefix("url(#").and_then(|rest| rest.strip_suffix(')'));
        assert!(target.is_none_or(|id| ids.contains(&id)), "{name} has no {value}");
    }
    let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
    for scheme in ["http://", "https://", "file://", "@import", "javascript:"] {
        assert!(!elsewhere.contains(scheme), "{name} names {scheme}");
    }
}

#[test]
fn a_hundred_runs_of_which_three_went_wrong() {
    let rendered = render("hundred", &report(Size::default()));
    assert_eq!(
        rendered.names(),
        [
            "report.html",
            "analysis.json",
            "alerts.jsonl",
            "morse_graph.json",
            "morse_graph.svg",
            "morse_graph.png",
            "morse_graph.dot",
            "phase_portrait.svg",
            "phase_portrait.png"
        ]
    );
    let words = rendered.words();
    for said in [
        "Diverged",
        "Of 103 runs, 1 has diverged (lr-3.0), 1 behaves unusually (lr-0.8) and 1 was in trouble and has come back (spike). \
         The other 100 show nothing unusual.",
        "Step 1700, run lr-3.0. At its worst since step 3700.",
        "are in or on the way to attractor M4",
        "with confidence 95 %",
        "the header says 9,812 bytes, the file has 4,096",
    ] {
        assert!(words.contains(said), "{said}");
    }
    assert_eq!(rendered.text("alerts.jsonl").lines().count(), 4);
}

#[test]
fn pictures_come_as_png_too() {
    let input = report(Size { healthy: 9, checkpoints: 20, subdivisions: 10 });
    let rendered = render("png", &input);
    for name in ["morse_graph.png", "phase_portrait.png"] {
        let picture = rendered.0.iter().find(|artifact| artifact.name == name).unwrap();
        assert_eq!(picture.media_type, "image/png");
        assert!(picture.bytes.starts_with(b"\x89PNG\r\n\x1a\n"), "{name}");
        let width = u32::from_be_bytes(picture.bytes[16..20].try_into().unwrap());
        assert!((1400..=1600).contains(&width), "{name} is {width} pixels wide");
    }
    let texts = texts(&input).unwrap();
    let others = rendered.0.iter().filter(|artifact| artifact.media_type != "image/png");
    assert!(others.eq(&texts), "all but the PNGs are text");
}

#[test]
fn the_same_input_gives_the_same_bytes_in_whatever_order_runs_and_alerts_come() {
    let small = Size { healthy: 9, checkpoints: 20, subdivisions: 10 };
    let input = report(small);
    let mut turned = report(small);
    turned.runs.reverse();
    turned.alerts.reverse();
    let (once, again) = (artifacts(&input).unwrap(), artifacts(&turned).unwrap());
    for (a, b) in once.iter().zip(&again).filter(|(a, _)| a.name != "analysis.json") {
        assert_eq!(a, b, "{}", a.name);
    }
    assert_eq!(once, artifacts(&input).unwrap());
}

#[test]
fn a_hundred_runs_of_a_thousand_checkpoints_stay_under_a_megabyte() {
    render("heavy", &report(Size { healthy: 100, checkpoints: 1000, subdivisions: 18 }));
}

#[test]
fn hostile_names_do_nothing() {
    let mut input = report(Size { healthy: 5, checkpoints: 20, subdivisions: 10 });
    let hostile = "\"><script>alert('x')</script></style></svg>{{ 7 * 7 }}&\u{202e}\0\n";
    input.title = hostile.to_owned();
    input.group.experiment = hostile.to_owned();
    input.not_available.push(hostile.to_owned());
    input.skipped.push((hostile.to_owned(), hostile.to_owned()));
    input.versions.push((hostile.to_owned(), hostile.to_owned()));
    for alert in &mut input.alerts {
        alert.headline = hostile.to_owned();
        alert.evidence = hostile.to_owned();
        alert.advice = hostile.to_owned();
        alert.not_checked = vec![hostile.to_owned()];
    }
    let rename = |name: &mut String| *name = format!("{hostile}{name}");
    input.runs.iter_mut().for_each(|run| rename(&mut run.run));
    input.alerts.iter_mut().for_each(|alert| rename(&mut alert.run));
    let analysis = input.analysis.as_mut().unwrap();
    analysis.trajectories.iter_mut().for_each(|trajectory| rename(&mut trajectory.run));
    analysis.basins.outlook.iter_mut().for_each(|outlook| rename(&mut outlook.run));
    analysis.projection.axes[0] = hostile.to_owned();
    analysis.quality.low_confidence.push(hostile.to_owned());
    let rendered = render("hostile", &input);
    for name in ["report.html", "morse_graph.svg", "phase_portrait.svg"] {
        let text = rendered.text(name);
        assert!(!text.contains("<script") && !text.contains(['\u{202e}', '\0']), "{name}");
    }
    assert!(rendered.words().contains("<script>alert('x')</script>"), "shown, not run");
    assert!(rendered.words().contains("{{ 7 * 7 }}"), "no template");
}

#[test]
fn one_healthy_run() {
    let mut input = report(Size { healthy: 1, ..Size::default() });
    input.alerts.clear();
    input.runs.retain(|run| run.run == "seed-000");
    let analysis = input.analysis.as_mut().unwrap();
    analysis.trajectories.retain(|trajectory| trajectory.run == "seed-000");
    analysis.basins.outlook.retain(|outlook| outlook.run == "seed-000");
    analysis.quality.low_confidence = vec!["the map was learned from one run only".to_owned()];
    let words = render("one", &input).words();
    assert!(words.contains("Healthy") && words.contains("Nothing unusual in 46 checkpoints of this run."));
    assert!(words.contains("Low confidence."));
    assert!(
        !words.contains("in or on the way to attractor"),
        "nothing is concluded from a picture of low confidence"
    );
}

#[test]
fn nothing_is_said_before_there_is_enough() {
    let mut input = report(Size { healthy: 1, checkpoints: 4, subdivisions: 10 });
    input.alerts.clear();
    input.analysis = Err("only 2 checkpoints have come; at least 8 are needed.".to_owned());
    input.runs = vec![RunView {
        run: "first".to_owned(),
        steps: vec![0, 10],
        weight_norms: vec![(0, 1.0), (10, 1.5)],
        state: RunState::Training,
        ..RunView::default()
    }];
    let rendered = render("early", &input);
    assert_eq!(rendered.names(), ["report.html", "analysis.json", "alerts.jsonl"]);
    let words = rendered.words();
    assert!(words.contains("Not enough data") && words.contains("Let it train on."));
    assert!(words.contains(
        "There is no picture of the dynamics yet: only 2 checkpoints have come; at least 8 are needed."
    ));
    let document: AnalysisDocument = serde_json::from_str(rendered.text("analysis.json")).unwrap();
    assert!(document.analysis.is_none() && document.no_analysis.is_some());
}

#[test]
fn no_run_at_all() {
    let mut input = report(Size { healthy: 1, checkpoints: 4, subdivisions: 10 });
    input.alerts.clear();
    input.runs.clear();
    input.analysis = Err("no checkpoint has come".to_owned());
    assert!(render("none", &input).words().contains("Not enough data"));
}

#[test]
fn one_and_three_coordinates() {
    render("one-dimension", &sample::in_dimension(1));
    render("three-dimensions", &sample::in_dimension(3));
}

/// A report on an analysis alone.
fn bare(analysis: Analysis) -> ReportInput {
    let view = |path: &Trajectory| RunView {
        run: path.run.clone(),
        steps: path.steps.clone(),
        ..RunView::default()
    };
    ReportInput {
        title: "two wells".to_owned(),
        focus: None,
        group: Group { source: "local".into(), experiment: "two-wells".into(), signature: "2".into() },
        analysis_id: "made for a test".to_owned(),
        runs: analysis.trajectories.iter().map(view).collect(),
        analysis: Ok(analysis),
        since: None,
        alerts: Vec::new(),
        skipped: Vec::new(),
        not_available: Vec::new(),
        versions: Vec::new(),
    }
}

#[test]
fn every_grid_and_map_can_be_drawn() {
    let drawn = |name: &str, subdivisions: Subdivisions, map: MapChoice, dimension: usize| {
        let surrogate = SurrogateParameters { map, ..SurrogateParameters::default() };
        let grid = GridParameters { subdivisions, ..GridParameters::default() };
        let parameters = Parameters { surrogate, grid, ..engine_analyze::parameters(dimension) };
        render(name, &bare(engine_analyze::two_wells(&parameters))).words()
    };
    let refinement = Refinement { init: 8, min: 14, max: 16, limit: 10_000 };
    let adaptive = drawn("adaptive", Subdivisions::Adaptive(refinement), MapChoice::GaussianProcess, 2);
    assert!(adaptive.contains("cells of 8 to 1"), "{adaptive}");
    assert!(adaptive.contains("What organises what."));
    let deep = Refinement { init: 9, min: 15, max: 15, limit: 10_000 };
    drawn("adaptive-three", Subdivisions::Adaptive(deep), MapChoice::GaussianProcess, 3);
    let five = drawn("five-dimensions", Subdivisions::Uniform(15), MapChoice::GaussianProcess, 5);
    assert!(five.contains("along the others one looks through"));
    let data = DataParameters { empty: EmptyBox::Interpolate, padding: 0.5, ..DataParameters::default() };
    let pairs = drawn("pairs-alone", Subdivisions::Uniform(10), MapChoice::Data(data), 2);
    assert!(pairs.contains("the pairs alone, without a model"));
}

#[test]
fn what_has_changed_since_the_analysis_before_is_told() {
    let mut input = report(Size { healthy: 9, checkpoints: 20, subdivisions: 10 });
    let id = "0123456789abcdef".to_owned();
    let continuation = Continuation {
        same: vec![(0, 4), (1, 0)],
        born: vec![1],
        attractors: (1, 2),
        new_attractors: vec![1],
        ..Continuation::default()
    };
    let comparison = Comparison::Compared { checkpoints: 180, deviation: 0.2, continuation };
    input.since = Some(Since { id: id.clone(), comparison });
    let rendered = render("since", &input);
    let words = rendered.words();
    let attractors = "the number of attractors went from 1 to 2: M1 new.";
    assert!(words.contains(&format!("Since the analysis before {attractors}")), "{words:.900}");
    assert!(words.contains(&format!("Compared with the analysis before (0123456789ab), {attractors}")));
    assert!(words.contains("2 Morse sets are the same (M4 was M0 and M0 was M1); new M1."), "{words}");
    assert!(summary(&input).contains(&format!("Change      Since the analysis before {attractors}")));
    let document: serde_json::Value = serde_json::from_str(rendered.text("analysis.json")).unwrap();
    let since: Since = serde_json::from_value(document["since"].clone()).unwrap();
    assert_eq!(Some(&since), input.since.as_ref());

    let rebased = Comparison::Rebased(Rebasing::Lag { before: 100, after: 250 });
    input.since = Some(Since { id, comparison: rebased });
    let words = render("rebased", &input).words();
    assert!(
        words.contains("so nothing is compared: the map is that of another lag, 250 steps instead of 100.")
    );
    assert!(!words.contains("Since the analysis before"));
}

#[test]
fn of_hundreds_of_morse_sets_the_telling_ones_are_drawn() {
    let rendered = render("near-identity", &sample::near_identity());
    let graph = rendered.text("morse_graph.svg");
    assert_eq!(Markup::parse(graph).unwrap().values("class").filter(|class| *class == "node").count(), 25);
    assert!(graph.contains("155 sets not shown"));
    assert!(graph.contains("80 sets of trivial index contracted"));
    let all: serde_json::Value = serde_json::from_str(rendered.text("morse_graph.json")).unwrap();
    assert_eq!(all["sets"].as_array().map(Vec::len), Some(260));
    assert_eq!(all["reduced"]["sets"].as_array().map(Vec::len), Some(180));
}

#[test]
fn the_analysis_can_be_read_back() {
    let input = report(Size { healthy: 3, checkpoints: 20, subdivisions: 14 });
    let rendered = Rendered(artifacts(&input).unwrap());
    let document: AnalysisDocument = serde_json::from_str(rendered.text("analysis.json")).unwrap();
    assert_eq!(document.schema, 2);
    assert_eq!(*document.id, *input.analysis_id);
    assert_eq!(document.analysis.as_deref(), input.analysis.as_ref().ok());
    assert_eq!(document.alerts, input.alerts);
}

#[test]
fn values_that_are_not_finite_are_marked_and_break_nothing() {
    let mut input = report(Size { healthy: 9, checkpoints: 20, subdivisions: 10 });
    for (at, run) in input.runs.iter_mut().enumerate() {
        let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1e300, -1e300][at % 7];
        for series in
            [&mut run.logged_losses, &mut run.weight_norms, &mut run.update_ratios, &mut run.instability]
        {
            series[at].1 = bad;
        }
        run.evaluated_losses.iter_mut().for_each(|(_, loss)| *loss = f64::NAN);
    }
    let rendered = render("not-finite", &input);
    for broken in ["NaN ", " inf", "Infinity"] {
        assert!(!rendered.text("report.html").contains(&format!("d=\"M{broken}")));
    }
}

#[test]
fn real_training() {
    let input = real::report(60);
    let rendered = render("iris", &input);
    let words = rendered.words();
    assert!(words.contains("The other 60 show nothing unusual."), "{words:.600}");
    assert!(words.contains("All 60 runs without alerts are in or on the way to attractor"), "{words:.900}");
}

#[test]
fn pictures() {
    let input = sample::tiny();
    let rendered = render("tiny", &input);
    insta::assert_snapshot!("morse_graph_dot", rendered.text("morse_graph.dot"));
    insta::assert_snapshot!("morse_graph_json", rendered.text("morse_graph.json"));
    let body = |name: &str| {
        let text = rendered.text(name);
        let drawn = &text[text.find("</style>").unwrap() + "</style>".len()..];
        drawn.replace('>', ">\n").replace("\n</", "</")
    };
    insta::assert_snapshot!("morse_graph_svg", body("morse_graph.svg"));
    insta::assert_snapshot!("phase_portrait_svg", body("phase_portrait.svg"));
    insta::assert_snapshot!("report_words", rendered.words());
}
