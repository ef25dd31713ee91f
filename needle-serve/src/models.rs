//! The loaded models, by name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::StatusCode;

use crate::model::Model;
use crate::openai::error::ApiError;

/// Loads the checkpoint, or the result of the run, in a directory.
pub type Loader = Arc<dyn Fn(&Path) -> Result<Arc<dyn Model>, String> + Send + Sync>;

/// The loaded models, by name.
#[derive(Default)]
pub struct Models {
    loaded: RwLock<BTreeMap<String, Arc<dyn Model>>>,
    is_ready: AtomicBool,
}

impl Models {
    /// Adds `model`, or replaces the one with this name.
    pub fn insert(&self, name: impl Into<String>, model: Arc<dyn Model>) {
        self.loaded.write().unwrap_or_else(PoisonError::into_inner).insert(name.into(), model);
    }

    /// Marks the models that the server starts with as loaded.
    pub fn set_ready(&self) {
        self.is_ready.store(true, Ordering::Release);
    }

    /// Whether the models that the server starts with are loaded.
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// The models' names.
    pub fn names(&self) -> Vec<String> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// The model called `name`; without a name, the only model.
    ///
    /// # Errors
    /// If no model has that name (404), or there are several and no name is given (400).
    pub fn get(&self, name: Option<&str>) -> Result<(String, Arc<dyn Model>), ApiError> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let names = || loaded.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let found = match name {
            Some(name) => loaded.get_key_value(name).ok_or_else(|| {
                let name: String = name.chars().take(100).collect();
                let message = format!("there is no model {name:?}; the models are: {}", names());
                let mut error = ApiError::new(StatusCode::NOT_FOUND, Some("model_not_found"), message);
                error.param = Some("model".into());
                error
            }),
            None if loaded.len() == 1 => loaded.iter().next().ok_or_else(|| ApiError::field("model", "missing")),
            None => Err(ApiError::field("model", format!("missing; the models are: {}", names()))),
        };
        found.map(|(name, model)| (name.clone(), model.clone()))
    }
}
