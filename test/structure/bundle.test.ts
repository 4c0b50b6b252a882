/**
 * `core.ts` runs where there is no Node: bundled for a browser it contains nothing but our sources, and works in a
 * context that has the language and a handful of what every browser adds to it.
 */
import { join } from 'node:path';
import { createContext, runInContext } from 'node:vm';
import { build } from 'esbuild';
import { beforeAll, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');

async function bundle(entry: string) {
  const { outputFiles, metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: [entry],
    bundle: true,
    platform: 'browser',
    format: 'iife',
    globalName: 'switchyard',
    target: 'es2022',
    external: ['node:*', 'koffi'],
    write: false,
    metafile: true,
    logLevel: 'silent',
  });
  const inputs = Object.entries(metafile.inputs);
  return {
    text: outputFiles[0]!.text,
    inputs: inputs.map(([path]) => path),
    external: inputs.flatMap(([, { imports }]) => imports.filter(each => each.external).map(each => each.path)),
  };
}

let core: Awaited<ReturnType<typeof bundle>>;
beforeAll(async () => {
  core = await bundle('src/core.ts');
});

test('no Node module and no package is reachable', () => {
  expect(core.external).toEqual([]);
  expect(core.inputs.filter(path => !path.startsWith('src/'))).toEqual([]);
  expect(core.inputs.filter(path => path.startsWith('src/runtime/native/'))).toEqual([]);
  expect(core.inputs).toContain('src/interpreter/interpreter.ts');
  expect(core.inputs).toContain('src/jit/x64/compile.ts');
});

test("Node's globals are not named either", () => {
  expect(core.text.match(/\b(?:process|Buffer|require|__dirname)\b[.([][^\n]{0,40}/g) ?? []).toEqual([]);
});

test('the same check finds what the main entry reaches', async () => {
  const { external, inputs } = await bundle('src/index.ts');
  expect(external).toEqual(expect.arrayContaining(['koffi', 'node:crypto']));
  expect(inputs.some(path => path.startsWith('src/runtime/native/'))).toBe(true);
});

/** Runs JavaScript in a realm without `require`, `process` or any other Node global; the result comes back as JSON. */
async function inBareRealm(script: string): Promise<unknown> {
  const realm = createContext({ TextDecoder, TextEncoder, performance });
  runInContext(core.text, realm);
  expect(JSON.parse(runInContext('JSON.stringify([typeof process, typeof require, typeof Buffer])', realm))).toEqual([
    'undefined',
    'undefined',
    'undefined',
  ]);
  return JSON.parse(await runInContext(`(async () => JSON.stringify(await (async () => { ${script} })()))()`, realm));
}

const LOAD = `
  const { assemble, createBufferHost, programFromInstructions, Runtime, compileProgram } = switchyard;
  const load = text => {
    const program = programFromInstructions({ name: 'p', type: 'raw', insns: assemble(text) });
    const collection = { programs: new Map([['p', program]]), maps: new Map(), license: 'GPL', btf: undefined };
    const runtime = new Runtime(createBufferHost(1 << 22));
    return runtime.load(collection, { memorySize: { min: 4, max: 4 } }).program('p');
  };
`;

/** Assembly text as a literal of the script. */
const literal = (...lines: string[]) => JSON.stringify(lines.join('\n'));

test('a program is verified and interpreted', async () => {
  const result = await inBareRealm(`${LOAD}
    const program = load(${literal('r0 = *(u32 *)(r1 + 0)', 'r0 *= r2', 'exit')});
    const { returnValue } = program.run(Uint8Array.of(5, 1, 0, 0));
    return { backend: program.backend, returnValue: String(returnValue) };
  `);
  expect(result).toEqual({ backend: 'interpreter', returnValue: String(0x105 * 4) });
});

test('a program that reads too far is rejected', async () => {
  const result = await inBareRealm(`${LOAD}
    try {
      load(${literal('r0 = *(u32 *)(r1 + 1)', 'exit')});
    } catch (error) {
      return { name: error.name, insn: error.insn };
    }
    return 'accepted';
  `);
  expect(result).toEqual({ name: 'VerifierError', insn: 0 });
});

test('x86-64 code is made', async () => {
  const result = await inBareRealm(`${LOAD}
    const { lowered } = load(${literal('r0 = 42', 'exit')});
    return [...compileProgram(lowered).bytes];
  `);
  expect(result).toContain(0xc3);
});
