// Calls one procedure with the stock Node client: `call.js ADDRESS PROCEDURE JSON`; prints its result as JSON.
const zerorpc = require("zerorpc");

const [address, procedure, argument] = process.argv.slice(2);
const client = new zerorpc.Client();
client.on("error", (error) => { console.error(error); process.exit(1); });
client.connect(address);
client.invoke(procedure, JSON.parse(argument), (error, result) => {
  console.log(JSON.stringify(error ? { name: error.name, message: error.message } : result));
  client.close();
});
