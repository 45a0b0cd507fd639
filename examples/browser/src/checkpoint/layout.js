// Which files a checkpoint consists of, by what its own files say.

export const MODULES = "modules.json";
export const WEIGHTS = "model.safetensors";
export const INDEX = "model.safetensors.index.json";
export const PICKLED = "pytorch_model.bin";

/** What stands beside the weights; most checkpoints lack some. */
export const SETTINGS = [
  "config.json",
  "config_sentence_transformers.json",
  // The core's TRANSFORMER_CONFIGS (rust/core/src/checkpoint/mod.rs): a checkpoint has one of them.
  "sentence_bert_config.json",
  "sentence_roberta_config.json",
  "sentence_distilbert_config.json",
  "sentence_camembert_config.json",
  "sentence_albert_config.json",
  "sentence_xlm-roberta_config.json",
  "sentence_xlnet_config.json",
  "artifact.metadata",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
];

/** WebAssembly's memory ends at 4 GiB. It holds the files, and beside them float16 as float32, which is twice as large. */
export const LARGEST = 1.2e9;

/** The folders that `modules.json` names, the Transformer's first; the checkpoint's own without such a file. */
export function moduleFolders(content) {
  const modules = parsed(content);
  const folders = (Array.isArray(modules) ? modules : []).map((module) => plainPath(module?.path));
  const known = [...new Set(folders.filter((folder) => folder !== null))];
  return known.length > 0 ? known : [""];
}

/** The shards that an index names. */
export function shards(folder, content) {
  const names = Object.values(parsed(content)?.weight_map ?? {}).map(plainPath);
  return [...new Set(names.filter(Boolean))].sort().map((name) => join(folder, name));
}

export function join(folder, name) {
  return folder ? `${folder}/${name}` : name;
}

/** Of a folder's files those that the core may read: not the same weights in other formats, nor pictures. */
export function relevant(paths) {
  const wanted = paths.filter((path) => /\.(json|metadata|safetensors|bin|txt|model)$/.test(path));
  const folders = new Set(wanted.filter((path) => path.endsWith(".safetensors")).map(folderOf));
  return wanted.filter((path) => !(path.endsWith(".bin") && folders.has(folderOf(path))));
}

/** Paths without the folders that all of them share. */
export function withoutCommonFolder(paths) {
  const split = paths.map((path) => path.split("/"));
  let depth = 0;
  while (split.length && split.every((parts) => depth < parts.length - 1 && parts[depth] === split[0][depth])) {
    depth += 1;
  }
  return split.map((parts) => parts.slice(depth).join("/"));
}

function folderOf(path) {
  return path.slice(0, path.lastIndexOf("/") + 1);
}

/** A path inside the checkpoint in its plain spelling, "" for its root; null for any other. */
function plainPath(path) {
  if (typeof path !== "string" || path.startsWith("/") || path.includes("\\")) {
    return null;
  }
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  return parts.includes("..") ? null : parts.join("/");
}

function parsed(content) {
  try {
    return JSON.parse(new TextDecoder().decode(content));
  } catch {
    return null; // damaged: the core says it better
  }
}
