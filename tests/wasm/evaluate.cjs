// Evaluates what it reads, a line of JSON each: { code, argument }, where the code is the body of an asynchronous function
// of (chandelier, argument, kept, require). A line answers: { result }, typed arrays as base64, or { name, message } of what was thrown.

const { createInterface } = require("node:readline");

const chandelier = require(process.argv[2]);
const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
const kept = {}; // what code leaves for code that follows

const plain = (_, value) =>
  ArrayBuffer.isView(value)
    ? {
        type: value.constructor.name,
        base64: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64"),
      }
    : value;

async function answer(line) {
  const { code, argument } = JSON.parse(line);
  try {
    return { result: await new AsyncFunction("chandelier", "argument", "kept", "require", code)(chandelier, argument, kept, require) };
  } catch (error) {
    return { isError: error instanceof Error, name: error?.name, message: error?.message ?? String(error) };
  }
}

(async () => {
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await answer(line), plain) + "\n");
  }
})();
