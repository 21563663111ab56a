//! A served surface with a web configuration, a throw-away authority, and clients.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use taffrail::components::Components;
use taffrail::config::{Config, ConfigError, load};
use taffrail::events::Timelines;
use taffrail::http::{Handle, Surface, serve};
use taffrail::reload::Reload;
use taffrail::tap::TapHub;
use taffrail::web::Web;
use taffrail_record::{Budget, Ledger};

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// An authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("signed"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `localhost`, of servers and clients alike.
    pub(crate) fn issue(&self) -> Identity {
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// A folder with a web configuration and its certificates.
pub(crate) struct Folder {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) authority: Authority,
}

pub(crate) const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

impl Folder {
    pub(crate) fn new(text: &str) -> Folder {
        let folder =
            Folder { directory: tempfile::tempdir().expect("directory"), authority: Authority::new() };
        folder.write("ca.crt", &folder.authority.pem());
        folder.certify(&folder.authority.issue());
        folder.write("web.yml", text);
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        write(&self.path(name), text);
    }

    pub(crate) fn certify(&self, identity: &Identity) {
        self.write("server.crt", &identity.certificate);
        self.write("server.key", &identity.key);
    }

    pub(crate) fn config(&self) -> Config {
        let path = self.path("web.yml").display().to_string();
        load(None, [("TAFFRAIL_HTTP__WEB_CONFIG".to_owned(), path)]).expect("valid")
    }

    pub(crate) fn open(&self) -> Result<Arc<Web>, ConfigError> {
        Web::open(&self.config()).map(|web| web.expect("a file is named"))
    }

    /// What is wrong with it, with the folder's name left out.
    pub(crate) fn refusal(&self) -> String {
        let error = self.open().err().expect("refused").to_string();
        error.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

fn write(path: &Path, text: &str) {
    let aside = path.with_extension("aside");
    File::create(&aside).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
    std::fs::rename(aside, path).expect("renamed");
}

/// A running surface.
pub(crate) struct Agent {
    pub(crate) folder: Folder,
    pub(crate) web: Arc<Web>,
    pub(crate) address: SocketAddr,
    _handle: Handle,
}

pub(crate) fn agent(text: &str) -> Agent {
    agent_in(Folder::new(text))
}

pub(crate) fn agent_in(folder: Folder) -> Agent {
    // Both ends of every connection are in this process.
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raised");
    }
    let web = folder.open().unwrap_or_else(|error| panic!("{error}"));
    let surface = Surface {
        timelines: Timelines::default(),
        audit: None,
        ledger: Ledger::new(),
        budget: Budget::new(1 << 20),
        asks: Vec::new(),
        pages: Vec::new(),
        shippers: Box::new(Vec::new),
        components: Components::new(),
        tap: TapHub::new(),
        config: Arc::new(ArcSwap::from_pointee(folder.config())),
        reload: Arc::new(Reload::new(|| Ok(String::new()))),
        web: Some(Arc::clone(&web)),
    };
    let handle = serve(surface, Some(SocketAddr::from(([127, 0, 0, 1], 0))), None).expect("served");
    Agent { folder, web, address: handle.address().expect("listens"), _handle: handle }
}

/// A client's side of TLS.
pub(crate) struct Client {
    pub(crate) roots: String,
    pub(crate) identity: Option<Identity>,
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
}

pub(crate) type Encrypted = StreamOwned<ClientConnection, TcpStream>;

impl Agent {
    pub(crate) fn client(&self) -> Client {
        Client { roots: self.folder.authority.pem(), identity: None, versions: rustls::ALL_VERSIONS }
    }

    pub(crate) fn plain(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        stream
    }

    /// The status of a request over a connection of its own, or 0 when there was none.
    pub(crate) fn get(&self, client: Option<&Client>, path: &str, headers: &str) -> Answer {
        let mut stream: Box<dyn Both> = match client {
            None => Box::new(self.plain()),
            Some(client) => match client.connect(self) {
                Ok(stream) => Box::new(stream),
                Err(_) => return Answer::default(),
            },
        };
        let headers = format!("Connection: close\r\n{headers}");
        ask(&mut stream, path, &headers).unwrap_or_default()
    }
}

trait Both: Read + Write {}
impl<T: Read + Write> Both for T {}

impl Client {
    pub(crate) fn connect(&self, agent: &Agent) -> io::Result<Encrypted> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.roots.as_bytes()).expect("PEM")).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .expect("known");
        let builder = builder.with_root_certificates(roots);
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("fits")
            }
        };
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, agent.plain());
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks and reads one answer, which leaves the connection as it is.
pub(crate) fn ask(
    stream: &mut (impl Read + Write + ?Sized),
    path: &str,
    headers: &str,
) -> io::Result<Answer> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")?;
    stream.flush()?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text").to_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let length =
        head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(Answer { status, head, body: String::from_utf8(body).expect("text") })
}

/// The header of a user and password.
pub(crate) fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {pair}\r\n")
}

/// The certificate that the server showed.
pub(crate) fn shown(stream: &Encrypted) -> Vec<u8> {
    stream.conn.peer_certificates().expect("shown")[0].to_vec()
}

/// A certificate in PEM, as it is shown.
pub(crate) fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM").to_vec()
}
