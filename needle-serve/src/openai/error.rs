//! Errors in the format of OpenAI's API: `{"error": {message, type, param, code}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use needle_data::Problem;
use serde_json::{Value, json};

use crate::error::ServeError;
use crate::model::ModelError;
use crate::queue::{Interrupted, QueueFull};
use crate::security::Refused;

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// One sentence: what happened, and what to do.
    pub message: String,
    /// The field of the request that it is about.
    pub param: Option<String>,
    /// A stable error code.
    pub code: Option<&'static str>,
}

impl ApiError {
    /// An error with `status`.
    pub fn new(status: StatusCode, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code }
    }

    /// An error (400) in the request's field `param`.
    pub fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        let (param, message) = (param.into(), message.into());
        let message = format!("{param}: {message}");
        Self { param: Some(param), ..Self::new(StatusCode::BAD_REQUEST, None, message) }
    }

    /// The error as JSON, for a response or a stream.
    pub fn body(&self) -> Value {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Question(reason) => Self::new(StatusCode::BAD_REQUEST, None, reason),
            ModelError::Unsupported(reason) => Self::new(StatusCode::BAD_REQUEST, Some("unsupported"), reason),
            ModelError::Failed(reason) => {
                tracing::error!("a model failed: {reason}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, None, reason)
            }
        }
    }
}

impl From<QueueFull> for ApiError {
    fn from(_: QueueFull) -> Self {
        let message = "too many requests are waiting; try again later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, Some("queue_full"), message)
    }
}

impl From<Interrupted> for ApiError {
    fn from(reason: Interrupted) -> Self {
        match reason {
            Interrupted::TimeLimit => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Some("time_limit"),
                "the answer took longer than the time limit",
            ),
            Interrupted::Panicked => Self::new(StatusCode::INTERNAL_SERVER_ERROR, None, "the model failed"),
        }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Foreign(reason) => Self::new(StatusCode::FORBIDDEN, Some("foreign_request"), reason),
            Refused::Key => {
                let message = "an API key is required; send the header Authorization: Bearer KEY";
                Self::new(StatusCode::UNAUTHORIZED, Some("invalid_api_key"), message)
            }
        }
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self::field(problem.field, problem.reason)
    }
}

impl From<ServeError> for ApiError {
    fn from(error: ServeError) -> Self {
        let status = match error {
            ServeError::Input(_) => StatusCode::BAD_REQUEST,
            ServeError::NotFound(_) => StatusCode::NOT_FOUND,
            ServeError::Conflict(_) => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, None, error.to_string())
    }
}
