// A stock Node server that offers tools, and connects to a broker: `tools.js BACKEND`. See tests/services/tools.py.
const zerorpc = require("zerorpc");

// The package finds only enumerable methods that are functions, and names the service after the constructor.
function Tools() {
  this.double = function (number, reply) { reply(null, number * 2); };
  this.numbers = function (end, reply) {
    for (let number = 0; number < end; number++) reply(null, number, true);
    reply();
  };
  this.repeat = function (text, times, reply) { reply(null, text.repeat(times)); };
  this.pid = function (reply) { reply(null, process.pid); };
  this.sleep = function (seconds, reply) { setTimeout(() => reply(null, process.pid), 1000 * seconds); };
  this.compute = function (seconds, reply) {
    const end = Date.now() + 1000 * seconds;
    while (Date.now() < end);
    reply(null, process.pid);
  };
}

const server = new zerorpc.Server(new Tools());
server.on("error", (error) => console.error(error)); // without this, a client that vanishes ends the process
server.connect(process.argv[2]);
