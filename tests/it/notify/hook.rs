//! A web server that writes down what it is sent.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;

/// Method, path and body of each request.
type Requests = Arc<Mutex<Vec<(String, String, String)>>>;

pub(crate) struct Hook {
    pub(crate) url: String,
    requests: Requests,
}

impl Hook {
    /// Answers everything with this status.
    pub(crate) async fn start(status: u16) -> Hook {
        let requests = Requests::default();
        let status = StatusCode::from_u16(status).unwrap();
        let router = Router::new()
            .fallback(
                move |State(requests): State<Requests>, request: Request| async move {
                    let method = request.method().to_string();
                    let path = request.uri().path().to_owned();
                    let body = axum::body::to_bytes(request.into_body(), 1 << 20)
                        .await
                        .unwrap();
                    let body = String::from_utf8(body.to_vec()).unwrap();
                    requests.lock().unwrap().push((method, path, body));
                    status
                },
            )
            .with_state(Arc::clone(&requests));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/geheimer/weg", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Hook { url, requests }
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|(_, path, _)| path.clone()).collect()
    }

    pub(crate) fn bodies(&self) -> Vec<serde_json::Value> {
        let requests = self.requests.lock().unwrap();
        requests
            .iter()
            .map(|(_, _, body)| serde_json::from_str(body).unwrap())
            .collect()
    }
}
