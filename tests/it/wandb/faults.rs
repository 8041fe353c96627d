//! The double fails as it is told, so that what is tested against it is tested.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::double::{Double, ENTITY, KEY};

const AGENT: &str = "doodl3/test";

/// An answer, read to its end.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A client that says who it is, and has a key.
struct Client<'d> {
    double: &'d Double,
    key: &'d str,
}

impl Client<'_> {
    fn send(make: impl FnOnce(reqwest::Client) -> reqwest::RequestBuilder) -> Option<Answer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = reqwest::Client::builder().user_agent(AGENT).no_proxy().build().unwrap();
            let answer = make(client).send().await.ok()?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            Some(Answer { status, headers, bytes: answer.bytes().await.ok()?.into() })
        })
    }

    fn graphql(&self, query: &str, variables: &Value) -> Option<Answer> {
        let body = json!({ "operationName": "", "query": query, "variables": variables });
        let address = format!("{}/graphql", self.double.url());
        Self::send(|client| client.post(address).basic_auth("api", Some(self.key)).json(&body))
    }

    fn ask(&self, query: &str, variables: &Value) -> Value {
        let answer = self.graphql(query, variables).unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        serde_json::from_slice(&answer.bytes).unwrap()
    }

    fn get(address: &str, headers: &[(&str, &str)]) -> Answer {
        Self::send(|client| {
            headers.iter().fold(client.get(address), |request, (name, value)| request.header(*name, *value))
        })
        .unwrap()
    }

    fn put(address: &str, headers: &[(String, String)], bytes: &'static [u8]) -> Answer {
        Self::send(|client| {
            let request = client.put(address).body(bytes);
            headers.iter().fold(request, |request, (name, value)| request.header(name, value))
        })
        .unwrap()
    }

    /// A run by its name.
    fn upsert(&self, name: &str) {
        let query = "mutation U($name: String, $project: String) {
            upsertBucket(input: {name: $name, modelName: $project}) { inserted bucket { id } } }";
        let answer = self.ask(query, &json!({ "name": name, "project": "lab" }));
        assert_eq!(answer["data"]["upsertBucket"]["inserted"], true);
    }

    fn stream(&self, run: &str, body: &Value) -> Answer {
        let address = format!("{}/files/{ENTITY}/lab/{run}/file_stream", self.double.url());
        Self::send(|client| client.post(address).basic_auth("api", Some(self.key)).json(body)).unwrap()
    }

    /// Where a file of the run goes, and what must go with it.
    fn announce(&self, name: &str) -> (String, Vec<(String, String)>) {
        let query = "mutation F($files: [String!]!) { createRunFiles(input: {entityName: \"team\", projectName: \"lab\",
            runName: \"one\", files: $files}) { uploadHeaders files { name uploadUrl } } }";
        let answer = self.ask(query, &json!({ "files": [name] }));
        let answer = &answer["data"]["createRunFiles"];
        let headers = answer["uploadHeaders"].as_array().unwrap().iter().map(|header| {
            let (name, value) = header.as_str().unwrap().split_once(':').unwrap();
            (name.to_owned(), value.to_owned())
        });
        (answer["files"][0]["uploadUrl"].as_str().unwrap().to_owned(), headers.collect())
    }

    fn file(&self) -> Value {
        let query = "{ project(name: \"lab\") { run(name: \"one\") { files { edges { node { name url directUrl } } } } } }";
        self.ask(query, &json!({}))["data"]["project"]["run"]["files"]["edges"][0]["node"].clone()
    }
}

#[test]
fn a_double_keeps_what_it_has_while_nobody_answers() {
    let mut double = Double::start();
    Client { double: &double, key: KEY }.upsert("one");
    let url = double.url();
    double.stop();
    assert!(Client { double: &double, key: KEY }.graphql("{ viewer { id } }", &json!({})).is_none());
    double.restart();
    assert_eq!(double.url(), url);
    let client = Client { double: &double, key: KEY };
    let answer = client.ask("{ project(name: \"lab\") { runCount } }", &json!({}));
    assert_eq!(answer["data"]["project"]["runCount"], 1);
}

#[test]
fn a_double_refuses_as_servers_do() {
    let double = Double::start();
    let stranger = Client { double: &double, key: "another" };
    let answer = stranger.ask("{ viewer { id } project(name: \"lab\") { id } }", &json!({}));
    assert_eq!(answer, json!({ "data": { "viewer": null, "project": null } }));
    let answer = stranger.ask("mutation { upsertBucket(input: {name: \"x\"}) { inserted } }", &json!({}));
    assert_eq!(answer["errors"][0]["message"], "permission denied");
    assert_eq!(stranger.stream("one", &json!({})).status, StatusCode::UNAUTHORIZED);

    let client = Client { double: &double, key: KEY };
    client.upsert("one");
    for (query, variables, expected) in [
        ("{ viewer { nothing } }", json!({}), "Cannot query field \\\"nothing\\\" on type \\\"User\\\"."),
        ("{ project(name: \"lab\", size: 1) { id } }", json!({}), "Unknown argument \\\"size\\\""),
        (
            "query Q($id: String!) { artifact(id: $id) { id } }",
            json!({ "id": "x" }),
            "expecting type \\\"ID!\\\"",
        ),
        ("query Q($id: ID!) { artifact(id: $id) { id } }", json!({}), "was not provided"),
        (
            "mutation { stopRun(input: {id: 1, now: true}) { success } }",
            json!({}),
            "Field \\\"now\\\" is not defined",
        ),
        ("{ viewer }", json!({}), "must have a selection"),
        (
            "query Q($filters: JSONString) { project(name: \"lab\") { runCount(filters: $filters) } }",
            json!({ "filters": "{\"config.lr\": NaN}" }),
            "invalid filters",
        ),
    ] {
        let answer = client.graphql(query, &variables).unwrap();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(answer.text().contains(expected), "{}", answer.text());
    }
    double.faults().unknown_fields = vec!["Run.historyLineCount".into(), "historyStep".into()];
    let query = "{ project(name: \"lab\") { run(name: \"one\") { historyLineCount } } }";
    let answer = client.graphql(query, &json!({})).unwrap();
    assert!(answer.text().contains("Cannot query field \\\"historyLineCount\\\" on type \\\"Run\\\"."));

    double.faults().only_agent = Some("other/".into());
    double.faults().server_error = true;
    assert_eq!(client.graphql("{ viewer { id } }", &json!({})).unwrap().status, StatusCode::OK);
    double.faults().only_agent = Some("doodl3/".into());
    assert_eq!(
        client.graphql("{ viewer { id } }", &json!({})).unwrap().status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    double.faults().server_error = false;
    double.faults().quota = Some(2.0);
    std::thread::sleep(Duration::from_millis(1100));
    let statuses = [0; 3].map(|_| client.graphql("{ viewer { id } }", &json!({})).unwrap());
    let last = &statuses[2];
    assert!(statuses[..2].iter().all(|answer| answer.status == StatusCode::OK));
    assert_eq!(last.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        (&last.headers["retry-after"], &last.headers["ratelimit-remaining"]),
        (&"1".parse().unwrap(), &"0".parse().unwrap())
    );
    double.faults().quota = None;
    double.faults().too_many = Some((Instant::now() + Duration::from_secs(60), 2.5));
    let answer = client.graphql("{ viewer { id } }", &json!({})).unwrap();
    assert_eq!(answer.headers["retry-after"], "2.5");
    let last = double.requests().pop().unwrap();
    assert_eq!((last.what.as_str(), last.status, last.user_agent.as_str()), ("viewer", 429, AGENT));
}

#[test]
fn a_double_stores_what_its_signature_allows() {
    let double = Double::start();
    let client = Client { double: &double, key: KEY };
    client.upsert("one");
    let refused =
        "mutation { createRunFiles(input: {entityName: \"team\", projectName: \"lab\", runName: \"one\",
        files: [\"../out\"]}) { runID } }";
    assert!(
        client.ask(refused, &json!({}))["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("invalid file name")
    );

    let (address, headers) = client.announce("a file.txt");
    assert_eq!(Client::put(&address, &[], b"0123").status, StatusCode::FORBIDDEN);
    let mut wrong = headers.clone();
    wrong.push(("Content-MD5".into(), BASE64.encode([0; 16])));
    assert_eq!(Client::put(&address, &wrong, b"0123").status, StatusCode::BAD_REQUEST);
    assert_eq!(Client::put(&address, &headers, b"0123").status, StatusCode::OK);
    assert!(client.file().is_null(), "nobody said that it is there");
    let marked = "mutation { markRunFilesUploaded(input: {entityName: \"team\", projectName: \"lab\", runName: \"one\",
        files: [\"a file.txt\"]}) { success } }";
    client.ask(marked, &json!({}));

    let file = client.file();
    let address = file["directUrl"].as_str().unwrap();
    assert!(!address.starts_with(&double.url()));
    let answer = Client::get(address, &[("Range", "bytes=1-2")]);
    assert_eq!((answer.status, answer.bytes.as_slice()), (StatusCode::PARTIAL_CONTENT, &b"12"[..]));
    assert_eq!(answer.headers["content-range"], "bytes 1-2/4");
    let answer = Client::get(address, &[("Authorization", "Basic YTpi")]);
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.text().contains("<Code>InvalidArgument</Code>"));
    let other = address.replace("signature=", "signature=0");
    assert_eq!(Client::get(&other, &[]).status, StatusCode::FORBIDDEN);
    let url = file["url"].as_str().unwrap();
    let key = format!("Basic {}", BASE64.encode(format!("api:{KEY}")));
    assert_eq!(Client::get(url, &[("Authorization", &key)]).bytes, b"0123");
    assert_eq!(Client::get(url, &[]).status, StatusCode::UNAUTHORIZED);

    double.faults().expire_urls = true;
    let file = client.file();
    let answer = Client::get(file["directUrl"].as_str().unwrap(), &[]);
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.text().contains("expired"));
    *double.faults() = super::double::Faults { relative_upload_urls: true, ..Default::default() };
    let (address, headers) = client.announce("two.txt");
    assert!(address.starts_with("/storage/"));
    assert_eq!(Client::put(&format!("{}{address}", double.url()), &headers, b"two").status, StatusCode::OK);
    client.stream("one", &json!({ "uploaded": ["two.txt"] }));
    assert_eq!(double.state().run("one").unwrap().files["two.txt"], b"two");
}

#[test]
fn a_double_keeps_runs_as_servers_do() {
    let double = Double::start();
    let client = Client { double: &double, key: KEY };
    for name in ["one", "two", "three"] {
        client.upsert(name);
    }
    let lines = |offset: usize, lines: &[&str]| json!({ "files": { "wandb-history.jsonl": { "offset": offset, "content": lines } } });
    client.stream("one", &lines(0, &["{\"_step\":0,\"a\":1}", "{\"_step\":1,\"a\":NaN}"]));
    client.stream("one", &json!({ "complete": true, "exitcode": 0 }));
    assert_eq!(double.state().run("one").unwrap().state, "finished");
    client.stream("one", &lines(1, &["{\"_step\":7,\"a\":-Infinity,\"b\":\"NaN, \\\"Infinity\"}"]));
    assert_eq!(double.state().run("one").unwrap().state, "running");
    let query = "query Q($spec: JSONString!) { project(name: \"lab\") { run(name: \"one\") {
        history(minStep: 1, maxStep: 8) sampledHistory(specs: [$spec]) historyLineCount historyKeys } } }";
    let answer =
        client.ask(query, &json!({ "spec": "{\"keys\": [\"_step\", \"a\", \"b\"], \"maxStep\": 7}" }));
    let run = &answer["data"]["project"]["run"];
    assert!(run["history"][0].as_str().unwrap().contains("\"a\":-Infinity"));
    assert_eq!(run["sampledHistory"], json!([[{ "_step": 7, "a": "-Infinity", "b": "NaN, \"Infinity" }]]));
    assert_eq!((&run["historyLineCount"], &run["historyKeys"]["lastStep"]), (&json!(2), &json!(7)));

    double.state().run_mut("two").unwrap().state = "crashed".into();
    let query = "query Q($filters: JSONString) { project(name: \"lab\") { runCount(filters: $filters) } }";
    let answer = client.ask(query, &json!({ "filters": "{\"state\": \"crashed\"}" }));
    assert_eq!(answer["data"]["project"]["runCount"], 1);

    let query = "query Q($after: String) { project(name: \"lab\") { runs(first: 2, after: $after, order: \"+created_at\") {
        edges { node { name } } pageInfo { endCursor hasNextPage } } } }";
    double.faults().empty_pages = true;
    let (mut after, mut pages) = (Value::Null, Vec::new());
    loop {
        let answer = client.ask(query, &json!({ "after": after }));
        let runs = &answer["data"]["project"]["runs"];
        let names = runs["edges"].as_array().unwrap().iter().map(|edge| edge["node"]["name"].clone());
        pages.push(names.collect::<Vec<_>>());
        after = runs["pageInfo"]["endCursor"].clone();
        if runs["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    assert_eq!(json!(pages), json!([[], ["one", "two"], [], ["three"]]));
}
