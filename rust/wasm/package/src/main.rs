//! `chandelier-wasm-package WASM OUT`: the packages OUT/web and OUT/nodejs of what the compiler made.

use std::env;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

const NAME: &str = "chandelier";

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [wasm, out] = &arguments[..] else { bail!("wanted: the compiled WebAssembly, and a folder") };
    for target in ["web", "nodejs"] {
        let folder = Path::new(out).join(target);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        let mut bindgen = Bindgen::new();
        bindgen.omit_default_module_path(false);
        bindgen
            .input_path(wasm)
            .out_name(NAME)
            .typescript(true)
            .remove_name_section(true)
            .remove_producers_section(true);
        match target {
            "web" => bindgen.web(true)?,
            _ => bindgen.nodejs(true)?,
        };
        bindgen.generate(&folder)?;
        fs::write(folder.join("package.json"), describe(target))?;
        fs::write(folder.join("LICENSE"), include_str!("../../../../LICENSE"))?;
    }
    Ok(())
}

/// The `package.json` of a package.
fn describe(target: &str) -> String {
    let (wasm, script, types) = (format!("{NAME}_bg.wasm"), format!("{NAME}.js"), format!("{NAME}.d.ts"));
    let package = serde_json::json!({
        "name": NAME,
        "version": env!("CARGO_PKG_VERSION"),
        "description": "ColBERT late interaction in the browser: encoding, MaxSim, token pooling and explanations",
        "license": env!("CARGO_PKG_LICENSE"),
        "type": if target == "web" { "module" } else { "commonjs" },
        "main": script,
        "types": types,
        "files": [wasm, script, types],
        "sideEffects": false,
    });
    format!("{package:#}\n")
}
