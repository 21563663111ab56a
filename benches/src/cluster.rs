//! Stands for an API server that knows the pods of [`lines`](crate::lines), for measuring what metadata costs and not what a server
//! does: it says what it knows and then nothing more.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::lines;
use crate::process;

/// Serves the first `count` pods for as long as this process lives; returns where.
pub fn serve(count: usize) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away ends its thread.
            thread::spawn(move || answer(&stream, count));
        }
    });
    Ok(address)
}

/// Writes the kubeconfig of whoever asks there.
pub fn write_kubeconfig(path: &Path, address: SocketAddr) -> Result<()> {
    process::write(
        path,
        &format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{{name: a, cluster: {{server: 'http://{address}'}}}}]\n\
             users: [{{name: a, user: {{}}}}]\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n"
        ),
    )
}

fn answer(mut stream: &TcpStream, count: usize) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while let Some(request) = lines.next().transpose()? {
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let path = request.split(' ').nth(1).unwrap_or_default();
        if path.contains("watch=") {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")?;
            if path.contains("/pods") && path.contains("sendInitialEvents=true") {
                for number in 0..count {
                    writeln!(stream, "{}", json!({"type": "ADDED", "object": pod(number)}))?;
                }
                let end = json!({"k8s.io/initial-events-end": "true"});
                let bookmark = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "9", "annotations": end}});
                writeln!(stream, "{}", json!({"type": "BOOKMARK", "object": bookmark}))?;
            }
            thread::sleep(Duration::from_secs(3600));
            return Ok(());
        }
        let found = found(path, count);
        let status = if found.is_some() { "200 OK" } else { "404 Not Found" };
        let body = found.unwrap_or_else(|| json!({"kind": "Status", "code": 404})).to_string();
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
    }
    Ok(())
}

fn found(path: &str, count: usize) -> Option<Value> {
    let path = path.split('?').next()?;
    if let Some(name) = path.strip_prefix("/api/v1/namespaces/") {
        let labels = json!({"env": "prod", "team": "checkout"});
        return Some(
            json!({"metadata": {"name": name, "uid": "5d1f2a6e-0000-4000-8000-000000000001", "labels": labels}}),
        );
    }
    let pods: Vec<Value> = (0..count).map(pod).collect();
    (path == "/api/v1/pods").then(|| json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}, "items": pods}))
}

/// A pod of a Deployment, with as many labels as most have.
fn pod(number: usize) -> Value {
    let (name, uid) = lines::pod(number);
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": name, "namespace": lines::NAMESPACE, "uid": uid, "resourceVersion": "8",
            "labels": {
                "app.kubernetes.io/name": "web", "app.kubernetes.io/version": "1.2.3", "app.kubernetes.io/part-of": "shop",
                "app.kubernetes.io/managed-by": "Helm", "pod-template-hash": "7d9f8b6c5",
            },
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d9f8b6c5", "uid": "r-1", "controller": true}],
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": lines::CONTAINER, "image": "registry.example.com/shop/web:1.2.3"}]},
        "status": {
            "phase": "Running", "podIP": "10.1.2.3", "hostIP": "10.0.0.1",
            "containerStatuses": [{
                "name": lines::CONTAINER, "image": "registry.example.com/shop/web:1.2.3", "imageID": "", "ready": true, "restartCount": 0,
                "containerID": format!("containerd://{}", "c0ffee".repeat(10)), "state": {"running": {}},
            }],
        },
    })
}
