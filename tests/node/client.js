// Calls the cluster with the stock Node client and prints what it got as one line of JSON.
const zerorpc = require("zerorpc");

const flower = { sepal_length: 5.1, sepal_width: 3.5, petal_length: 1.4, petal_width: 0.2 };
const client = new zerorpc.Client();
client.on("error", (error) => { console.error(error); process.exit(1); });
client.connect(process.argv[2]);

const call = (...args) => new Promise((resolve) => {
  client.invoke(...args, (error, result) =>
    resolve(error ? { name: error.name, message: error.message } : result));
});

const stream = (...args) => new Promise((resolve, reject) => {
  const items = [];
  client.invoke(...args, (error, item, more) => {
    if (error) return reject(error);
    if (item !== undefined) items.push(item);
    if (!more) resolve(items);
  });
});

(async () => {
  const said = {
    models: await call("get_models"),
    prediction: await call("iris_model_predict", flower),
    invalid: await call("iris_model_predict", { ...flower, petal_width: "abc" }),
    unknown: await call("nope"),
    batch: await call("iris_model_predict_batch", [flower, flower, flower]),
    stream: await stream("iris_model_predict_stream", Array(300).fill(flower)),
  };
  console.log(JSON.stringify(said));
  client.close();
})();
