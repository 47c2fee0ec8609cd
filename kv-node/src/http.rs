//! The HTTP port: `/metrics`, `/health/live`, `/health/ready`. Nothing else, and nothing to change.
//!
//! Each answer is made when it is asked for, so nothing is kept between two scrapes. Every bound
//! is there against a stranger who connects and dawdles: connections, header bytes, time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::metrics;
use crate::node::Node;
use crate::rpc::transport::TarpcTransport;

/// Bounds of the port.
#[derive(Clone, Copy, Debug)]
pub struct HttpConfig {
    /// Connections at once, at most; further ones are closed.
    pub connections_max: usize,
    /// Bytes of a request's head, at most. At least 8192.
    pub head_bytes_max: usize,
    /// Milliseconds in which a request's head must have come.
    pub head_ms_max: u64,
    /// Milliseconds after which a connection is closed whatever it does.
    pub connection_ms_max: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connections_max: 64,
            head_bytes_max: 8 * 1_024,
            head_ms_max: 5_000,
            connection_ms_max: 60_000,
        }
    }
}

/// What the answers are made from.
#[derive(Clone, Debug)]
pub struct HttpSource {
    /// The node.
    pub node: Arc<Node>,
    /// Its transport, for its figures.
    pub transport: Option<Arc<TarpcTransport>>,
}

/// Answers requests until it is dropped.
pub async fn serve(listener: TcpListener, source: HttpSource, config: HttpConfig) {
    let room = Arc::new(Semaphore::new(config.connections_max));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the HTTP port could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
        let source = source.clone();
        tokio::spawn(async move {
            attend(stream, source, config).await;
            drop(place);
        });
    }
}

async fn attend(stream: TcpStream, source: HttpSource, config: HttpConfig) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&source, request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.head_ms_max))
        .max_buf_size(config.head_bytes_max.max(8_192))
        .serve_connection(TokioIo::new(stream), service);
    let limit = Duration::from_millis(config.connection_ms_max);
    if let Ok(Err(error)) = tokio::time::timeout(limit, connection).await {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

fn answer(source: &HttpSource, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/metrics" => {
            let is_ready = source.node.unready().is_none();
            let page = metrics::render(&source.node, source.transport.as_deref(), is_ready);
            let mut page = text(StatusCode::OK, page);
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            page.headers_mut().insert(CONTENT_TYPE, kind);
            page
        }
        "/health/live" => text(StatusCode::OK, "alive\n".into()),
        "/health/ready" => match source.node.unready() {
            None => text(StatusCode::OK, "ready\n".into()),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "/metrics, /health/live, /health/ready\n".into()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}
