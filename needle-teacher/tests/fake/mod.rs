//! A teacher on 127.0.0.1: an OpenAI-compatible endpoint whose behaviour a test scripts, and which
//! remembers what it was asked.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Tokens that every answer says it used.
pub const INPUT_TOKENS: u64 = 1000;
pub const OUTPUT_TOKENS: u64 = 100;

/// What the endpoint does with a request.
pub enum Action {
    /// Answers with this text of the model.
    Say(String),
    /// Answers with a status, headers and a body.
    Status(u16, Vec<(&'static str, &'static str)>, String),
    /// Sends half of an answer and closes.
    BreakOff,
    /// Closes without a word.
    HangUp,
    /// Says nothing for so long, then closes.
    Silence(Duration),
    /// Says nothing until [`Fake::release`], then closes.
    Hold,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Seen {
    pub head: String,
    pub body: Value,
    pub at: Instant,
    pub is_answered: bool,
}

impl Seen {
    /// The task as the teacher reads it.
    pub fn user(&self) -> Value {
        serde_json::from_str(self.body["messages"][1]["content"].as_str().unwrap()).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    held: usize,
    is_released: bool,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

pub struct Fake {
    port: u16,
    state: Shared,
}

impl Fake {
    /// An endpoint that does what `script` says about the `n`-th request (from 0).
    pub fn new(script: impl Fn(usize, &Value) -> Action + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Shared::default();
        let (shared, script) = (state.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, script) = (shared.clone(), script.clone());
                std::thread::spawn(move || serve(stream, &shared, script.as_ref()));
            }
        });
        Self { port, state }
    }

    /// An endpoint that answers everything well.
    pub fn good() -> Self {
        Self::new(|_, body| Action::Say(good(body)))
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.0.lock().unwrap().seen.clone()
    }

    pub fn num_seen(&self) -> usize {
        self.state.0.lock().unwrap().seen.len()
    }

    pub fn num_answered(&self) -> usize {
        self.seen().iter().filter(|seen| seen.is_answered).count()
    }

    /// Waits until so many requests are held.
    pub fn wait_until_held(&self, number: usize) {
        let guard = self.state.0.lock().unwrap();
        let (guard, waited) =
            self.state.1.wait_timeout_while(guard, Duration::from_secs(120), |state| state.held < number).unwrap();
        assert!(!waited.timed_out(), "{} of {number} requests are held", guard.held);
    }

    pub fn release(&self) {
        self.state.0.lock().unwrap().is_released = true;
        self.state.1.notify_all();
    }
}

fn serve(mut stream: TcpStream, shared: &Shared, script: &(dyn Fn(usize, &Value) -> Action + Send + Sync)) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let length =
        |line: &str| line.to_ascii_lowercase().strip_prefix("content-length: ").map(|n| n.trim().parse().unwrap());
    let mut body = vec![0; head.lines().find_map(length).unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let number = {
        let mut state = shared.0.lock().unwrap();
        state.seen.push(Seen { head, body: body.clone(), at: Instant::now(), is_answered: false });
        state.seen.len() - 1
    };
    let answer = |status: u16, headers: &[(&str, &str)], text: &str| {
        let mut out = format!("HTTP/1.1 {status} Scripted\r\nconnection: close\r\ncontent-length: {}\r\n", text.len());
        headers.iter().for_each(|(name, value)| out.push_str(&format!("{name}: {value}\r\n")));
        out + "\r\n" + text
    };
    match script(number, &body) {
        Action::Say(content) => {
            shared.0.lock().unwrap().seen[number].is_answered = true;
            let _ = stream
                .write_all(answer(200, &[("content-type", "application/json")], &completion(&content)).as_bytes());
        }
        Action::Status(status, headers, text) => {
            let _ = stream.write_all(answer(status, &headers, &text).as_bytes());
        }
        Action::BreakOff => {
            let whole = answer(200, &[], &completion("{}"));
            let _ = stream.write_all(&whole.as_bytes()[..whole.len() - 20]);
        }
        Action::HangUp => {}
        Action::Silence(time) => std::thread::sleep(time),
        Action::Hold => {
            let mut state = shared.0.lock().unwrap();
            state.held += 1;
            shared.1.notify_all();
            drop(shared.1.wait_while(state, |state| !state.is_released).unwrap());
        }
    }
}

/// The envelope of an answer.
pub fn completion(content: &str) -> String {
    let message = json!({"role": "assistant", "content": content});
    let usage = json!({"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS});
    json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}).to_string()
}

/// The answer of a teacher that makes no mistake. A function of the request alone.
pub fn good(body: &Value) -> String {
    let user: Value = serde_json::from_str(body["messages"][1]["content"].as_str().unwrap()).unwrap();
    if let Some(domain) = user.get("domain") {
        let tool = |i: u64| {
            let name = format!("{}_{i}", domain.as_str().unwrap());
            let parameter =
                json!({"name": "thing", "type": "string", "description": "Which", "required": true, "enum": null});
            json!({"name": name, "description": format!("Does {name}"), "parameters": [parameter]})
        };
        let have = user["have"].as_array().unwrap().len() as u64;
        let count = user["count"].as_u64().unwrap();
        return json!({"tools": (have..have + count).map(tool).collect::<Vec<_>>()}).to_string();
    }
    if user.get("assignment").is_none() {
        return json!({"reason": "fine", "is_right": true}).to_string();
    }
    json!({"rows": rows(&user)}).to_string()
}

/// Rows as `assignment` asks for them.
pub fn rows(user: &Value) -> Vec<Value> {
    let count = user["assignment"]["rows"].as_u64().unwrap();
    (0..count).map(|i| row(user, i)).collect()
}

fn row(user: &Value, i: u64) -> Value {
    let assignment = &user["assignment"];
    let mut hasher = DefaultHasher::new();
    (user.to_string(), i).hash(&mut hasher);
    let mut random = Words(hasher.finish());
    let mut said = vec![random.word(), random.word(), random.word()];
    if let Some(source) = assignment.get("source") {
        if assignment["kind"] == "paraphrase" {
            said.push(source["query"].as_str().unwrap().to_owned());
        }
        return json!({"query": said.join(" ")});
    }
    let tools = user["tools"].as_array().unwrap();
    let focus = tools.iter().find(|tool| tool["name"] == assignment["focus_tool"]).unwrap();
    let called: Vec<&Value> = match assignment["kind"].as_str().unwrap() {
        "none_fits" | "near_miss" => Vec::new(),
        "several" => vec![focus, tools.iter().find(|tool| *tool != focus).unwrap()],
        "twice" => vec![focus, focus],
        _ => vec![focus],
    };
    let mut answers = Vec::new();
    for tool in called {
        let mut arguments = serde_json::Map::new();
        for (name, spec) in tool["parameters"].as_object().unwrap() {
            let value = match spec["type"].as_str().unwrap() {
                "integer" => json!(random.next() % 90),
                "boolean" => json!(true),
                _ => json!(format!("{} {} {} {}", random.word(), random.word(), random.word(), random.word())),
            };
            said.push(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            arguments.insert(name.clone(), value);
        }
        answers.push(json!({"name": tool["name"], "arguments": arguments}));
    }
    json!({"query": said.join(" "), "answers": answers})
}

/// Words that mean nothing, drawn from a seed.
struct Words(u64);

impl Words {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn word(&mut self) -> String {
        let letters = |all: &'static str, n: u64| all.as_bytes()[(n % all.len() as u64) as usize] as char;
        (0..6)
            .map(|i| if i % 2 == 0 { letters("bdfgklmnprstvz", self.next()) } else { letters("aeiou", self.next()) })
            .collect()
    }
}
