//! The list of models, asked for at most once in a while however often applications want it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Inference, Model};
use crate::ApiError;

/// How old a list may be. Every look at it would otherwise be a question to every proxy.
const AGE_MAX: Duration = Duration::from_secs(1);

type List = Result<Arc<Vec<Model>>, ApiError>;

/// The last list. Whoever comes while it is being fetched waits for it.
#[derive(Debug, Default)]
pub(super) struct Models {
    last: Mutex<Option<(Instant, List)>>,
}

impl Models {
    pub(super) async fn list(&self, inference: &impl Inference) -> List {
        let mut last = self.last.lock().await;
        if let Some((at, list)) = &*last
            && at.elapsed() < AGE_MAX
        {
            return list.clone();
        }
        let list = inference.models().await.map(Arc::new);
        last.insert((Instant::now(), list)).1.clone()
    }
}
