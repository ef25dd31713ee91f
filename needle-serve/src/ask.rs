//! Asks a model one question, by way of the queue, and yields the answer step by step.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::model::{Answer, Model, ModelError, Piece, Question};
use crate::queue::{Events, Queue, QueueFull};

/// One step of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The next bytes of the answer's JSON.
    Piece {
        /// May end inside a character.
        bytes: Vec<u8>,
        /// The model's probability of the token that these bytes belong to.
        probability: Option<f32>,
    },
    /// The last step: the whole answer, or why there is none.
    Done(Result<Answer, ModelError>),
}

/// Asks `model` as soon as the queue allows. Dropping the result stops the model.
///
/// # Errors
/// If there is no room in the queue.
pub fn ask(queue: &Queue, model: Arc<dyn Model>, question: Question) -> Result<Events<Step>, QueueFull> {
    queue.submit(move |emit| {
        let mut is_left = false;
        let answer = model.answer(&question, &mut |Piece { bytes, probability }| {
            let flow = emit(Step::Piece { bytes: bytes.to_vec(), probability });
            is_left |= flow == ControlFlow::Break(());
            flow
        });
        if !is_left {
            let _ = emit(Step::Done(answer));
        }
    })
}
