//! Whether a process answers at its metrics' address: what containers without a shell ask.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for each step of the question.
const PATIENCE: Duration = Duration::from_secs(2);
/// How the answer of a process that lives begins.
const WELL: &[u8] = b"HTTP/1.1 200 ";

/// Asks the process whose metrics are served at `address` for its `/health`.
///
/// # Errors
/// Where nothing answers in time, or the answer is not that of a process that lives.
pub fn ask(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!("GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = [0; WELL.len()];
    stream.read_exact(&mut answer)?;
    if answer == WELL {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "{address} answers, and not as a process of Rookery: {:?}",
            String::from_utf8_lossy(&answer)
        ),
    ))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Asks a server that gives one answer, and returns what it was asked.
    fn asked(answer: &'static [u8]) -> (io::Result<()>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(answer).unwrap();
            String::from_utf8(request).unwrap()
        });
        (ask(address), server.join().unwrap())
    }

    #[test]
    fn a_process_that_answers_is_well() {
        let (verdict, request) = asked(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n");
        verdict.unwrap();
        assert!(request.starts_with("GET /health HTTP/1.1\r\n"), "{request}");
    }

    #[test]
    fn another_answer_and_none_are_errors() {
        for answer in [
            b"HTTP/1.1 404 Not Found\r\n\r\n".as_slice(),
            b"SSH-2.0-OpenSSH_9.2\r\n",
        ] {
            let error = asked(answer).0.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
        let error = asked(b"").0.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
    }

    #[test]
    fn an_address_where_nothing_listens_is_an_error() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let error = ask(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    }
}
