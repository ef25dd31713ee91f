//! New tools for a described domain, which the teacher writes before the plan is made.

use needle_data::Tool;
use needle_data::text::names::to_snake_case;
use needle_data::text::tool::Parameter;
use serde_json::{Map, Value, json};

use crate::client::Question;
use crate::config::TeacherConfig;
use crate::extract;
use crate::prompt::{self, Prompt};
use crate::teacher::{Ask, Outcome, Teacher};
use crate::tokens::Usage;

/// Number of tools that one request asks for.
const TOOLS_PER_REQUEST: usize = 10;
/// Maximum number of consecutive requests without a new tool.
const MAX_FRUITLESS: usize = 3;
const MAX_NAME_CHARS: usize = 64;
const MAX_PARAMETERS: usize = 12;
/// Approximate number of tokens of a tool's definition.
const EXPECTED_TOOL_TOKENS: u64 = 120;

/// The result of inventing tools.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Invented {
    /// Usable tools.
    pub tools: Vec<Tool>,
    /// Rejected definitions, each with the reason.
    pub rejected: Vec<(Value, String)>,
}

/// Asks for `count` tools for `domain`, with other names than those of `have`. Returns fewer if the
/// teacher runs out of new ones.
pub fn invent(teacher: &Teacher, config: &TeacherConfig, domain: &str, count: usize, have: &[Tool]) -> Invented {
    let mut invented = Invented::default();
    let mut fruitless = 0;
    for request in 0.. {
        let missing = count - invented.tools.len();
        if missing == 0 || fruitless == MAX_FRUITLESS {
            break;
        }
        let names: Vec<&str> = have.iter().chain(&invented.tools).map(|tool| tool.name.as_str()).collect();
        let ask = ask_for(domain, missing.min(TOOLS_PER_REQUEST), &names, request, config);
        let mut outcome = Outcome::NotAsked;
        teacher.ask_all(&[ask], |_, asked| outcome = asked);
        let listed = match outcome {
            Outcome::NotAsked => break,
            Outcome::Failed(reason) => Err(reason),
            Outcome::Answered(answer) => extract::list(&answer.content, "tools"),
        };
        let before = invented.tools.len();
        match listed {
            Err(reason) => invented.rejected.push((Value::Null, reason)),
            Ok(listed) => {
                for definition in listed.items.into_iter().take(missing) {
                    match tool(&definition).and_then(|tool| unlike(tool, have, &invented.tools)) {
                        Ok(tool) => invented.tools.push(tool),
                        Err(reason) => invented.rejected.push((definition, reason)),
                    }
                }
            }
        }
        fruitless = if invented.tools.len() > before { 0 } else { fruitless + 1 };
    }
    invented
}

/// Estimated usage of asking for `count` tools.
pub fn expected_usage(domain: &str, count: usize, config: &TeacherConfig) -> Usage {
    let requests = count.div_ceil(TOOLS_PER_REQUEST) as u64;
    let input = requests * ask_for(domain, count.min(TOOLS_PER_REQUEST), &[], 0, config).input_tokens();
    let output = count as u64 * EXPECTED_TOOL_TOKENS;
    let cost = config.teacher.price.map(|price| price.cost(input, output));
    Usage { input_tokens: input, output_tokens: output, cost, is_estimated: true }
}

/// Placeholder tools of ordinary size, to estimate a plan whose tools are not invented yet.
pub fn stand_ins(count: usize) -> Vec<Tool> {
    let parameter = |name: &str, required: bool| {
        let spec = json!({"type": "string", "description": "A value that the user states", "required": required});
        Parameter::new(name, spec.as_object().cloned().unwrap_or_default())
    };
    let parameters =
        || vec![parameter("first_value", true), parameter("second_value", true), parameter("third_value", false)];
    let description = "Does one thing that a user asks for in a sentence";
    (1..=count).map(|i| Tool::new(format!("invented_{i}"), description, parameters())).collect()
}

fn ask_for(domain: &str, count: usize, have: &[&str], request: usize, config: &TeacherConfig) -> Ask {
    let Prompt { system, user, schema } = prompt::tools(domain, count, have);
    let model = &config.teacher;
    let question = Question {
        model: model.model.clone(),
        system,
        user,
        schema,
        max_answer_tokens: model.max_answer_tokens,
        temperature: model.temperature,
    };
    Ask { question, price: model.price, place: format!("tools request {request}") }
}

/// Reads a definition. Its parameters may be a list, or an object as everywhere else.
fn tool(definition: &Value) -> Result<Tool, String> {
    let mut definition = definition.clone();
    if let Some(Value::Array(parameters)) = definition.get("parameters") {
        let mut native = Map::new();
        for parameter in parameters {
            let mut spec = parameter.as_object().cloned().ok_or("a parameter is not an object")?;
            let Some(Value::String(name)) = spec.shift_remove("name") else {
                return Err("a parameter has no name".into());
            };
            if spec.get("enum").is_some_and(|choices| choices.is_null() || choices == &json!([])) {
                spec.shift_remove("enum");
            }
            if spec.get("type").is_some_and(|t| t == "array") && !spec.contains_key("items") {
                spec.insert("items".into(), json!({"type": "string"}));
            }
            if native.insert(name.clone(), spec.into()).is_some() {
                return Err(format!("the parameter {name:?} occurs twice"));
            }
        }
        definition["parameters"] = native.into();
    }
    let tool = Tool::from_json(&definition, "tool").map_err(|problem| problem.to_string())?;
    let is_name = |name: &str| to_snake_case(name) == name && !name.is_empty() && name.len() <= MAX_NAME_CHARS;
    let parameters = &tool.parameters;
    match () {
        () if !is_name(&tool.name) => Err(format!("{:?} is not a name in snake_case", tool.name)),
        () if tool.description.trim().is_empty() => Err("it has no description".into()),
        () if parameters.is_empty() || parameters.len() > MAX_PARAMETERS => {
            Err(format!("{} parameters; expected 1 to {MAX_PARAMETERS}", parameters.len()))
        }
        () if !parameters.iter().any(Parameter::is_required) => Err("no parameter is required".into()),
        () => match parameters.iter().find_map(|p| bad_parameter(p, &is_name)) {
            Some(reason) => Err(reason),
            None => Ok(tool),
        },
    }
}

fn bad_parameter(parameter: &Parameter, is_name: &impl Fn(&str) -> bool) -> Option<String> {
    let (name, spec) = (&parameter.name, &parameter.spec);
    if !is_name(name) {
        return Some(format!("{name:?} is not a name in snake_case"));
    }
    let choices = spec.get("enum")?;
    let Some(choices) = choices.as_array() else { return Some(format!("{name}.enum: expected a list")) };
    let mut plain = parameter.clone();
    plain.spec.shift_remove("enum");
    choices.iter().find_map(|choice| plain.mismatch(choice).map(|found| format!("{name}.enum: {}", found.reason)))
}

fn unlike(tool: Tool, have: &[Tool], new: &[Tool]) -> Result<Tool, String> {
    match have.iter().chain(new).find(|other| other.name == tool.name || other.is_same_but_for_name(&tool)) {
        Some(other) => Err(format!("there is {:?} already", other.name)),
        None => Ok(tool),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(parameters: &Value) -> Value {
        json!({"name": "water_plants", "description": "Water the plants", "parameters": parameters})
    }

    #[test]
    fn a_list_of_parameters_becomes_the_native_form() {
        let tool = tool(&definition(&json!([
            {"name": "zone", "type": "string", "description": "Where", "required": true, "enum": ["roof", "yard"]},
            {"name": "minutes", "type": "integer", "description": "How long", "required": false, "enum": null},
        ])));
        let native = definition(&json!({
            "zone": {"type": "string", "description": "Where", "required": true, "enum": ["roof", "yard"]},
            "minutes": {"type": "integer", "description": "How long", "required": false},
        }));
        assert_eq!(tool.unwrap().to_json(), native);
    }

    #[test]
    fn definitions_that_nobody_could_use_are_refused_with_the_reason() {
        let one = json!({"name": "zone", "type": "string", "required": true});
        let mut twice = one.clone();
        twice["enum"] = json!(["a", 3]);
        for (parameters, reason) in [
            (json!([]), "0 parameters"),
            (json!([one, one]), "twice"),
            (json!([twice]), "expected string, got 3"),
            (json!([{"name": "zone", "type": "string", "required": false}]), "no parameter is required"),
            (json!([{"name": "The Zone", "type": "string", "required": true}]), "snake_case"),
            (json!([3]), "not an object"),
        ] {
            let error = tool(&definition(&parameters)).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        let known = Tool::from_json(&definition(&json!([])), "t");
        assert!(known.is_err());
        let known = tool(&definition(&json!([one]))).unwrap();
        assert!(unlike(known.clone(), &[], &[known]).unwrap_err().contains("already"));
    }
}
