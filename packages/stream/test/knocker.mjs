// Knocks at a port with so many connections as it may have at once, in turn: some say nothing, some the half of a request,
// some ask to become a WebSocket without showing anything. It keeps them for as long as the server does.
import { connect } from "node:net";

const [port, count] = process.argv.slice(2).map(Number);
const UPGRADE = [
  "GET /models/model HTTP/1.1",
  "Host: x",
  "Connection: Upgrade",
  "Upgrade: websocket",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
  "",
  "",
].join("\r\n");
const SAYINGS = ["", "GET /models/mod", UPGRADE, UPGRADE.slice(0, -2), "\x89TWIRE\r\n"];
const AT_ONCE = 4000;

let knocked = 0;
let open = 0;
function knock() {
  while (open < AT_ONCE && knocked < count) {
    const saying = SAYINGS[knocked++ % SAYINGS.length];
    open++;
    const socket = connect(port, "127.0.0.1", () => socket.write(saying));
    socket.resume();
    socket.on("error", () => {});
    socket.on("close", () => {
      open--;
      setImmediate(knock);
    });
    // Room for others: it cannot have all of them open.
    setTimeout(() => socket.destroy(), 2000).unref();
  }
  if (knocked === count && process.connected) process.send("knocked");
}
knock();
