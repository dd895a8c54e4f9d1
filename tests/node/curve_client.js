// Calls a broker that requires keys with the stock Node client: curve_client.js ADDRESS PUBLIC SECRET BROKER, keys in Z85.
const zerorpc = require("zerorpc");

const [address, publicKey, secretKey, brokerKey] = process.argv.slice(2);
const client = new zerorpc.Client();
const socket = client._socket._zmqSocket; // before `connect`; the package has no other way
socket.curve_publickey = publicKey;
socket.curve_secretkey = secretKey;
socket.curve_serverkey = brokerKey;
client.connect(address);

const flower = { sepal_length: 5.1, sepal_width: 3.5, petal_length: 1.4, petal_width: 0.2 };
client.invoke("iris_model_predict", flower, (error, result) => {
  console.log(JSON.stringify(error ? { name: error.name, message: error.message } : result));
  client.close();
});
