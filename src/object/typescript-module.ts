/**
 * A TypeScript module for an object, as `bpftool gen skeleton` and bpf2go make them for C and Go: the types of every map's keys and
 * values and of the global variables, and a loader that is typed by them. The same object gives the same text.
 */
import { check } from '../arguments.ts';
import { collectionSpec } from './check.ts';
import { globalVariables } from './globals.ts';
import type { Collection, MapSpec, MapType } from './spec.ts';
import { comment, list, pascal, plural, property, quoted, TypeScriptTypes, type TypeText } from './typescript.ts';

export interface ModuleOptions {
  /** Name of the object's file. */
  readonly file: string;
  /** Of the class; default: made of the file's name. */
  readonly name?: string;
  /** The object to embed; undefined: it lies beside the module. */
  readonly bytes: Uint8Array | undefined;
  /** Where the module finds this package. */
  readonly importFrom: string;
}

const moduleOptions = check.record({
  file: check.string,
  name: check.optional(check.string),
  bytes: check.optional(check.bytes),
  importFrom: check.string,
});

/**
 * A TypeScript module for an object.
 * @throws ObjectError where a type of the object's BTF is wrong
 */
export function typescriptModule(collection: Collection, options: ModuleOptions): string {
  collectionSpec(collection, 'collection');
  moduleOptions(options, 'options');
  const { file, bytes, importFrom } = options;
  const name = pascal(options.name ?? file.replace(/\.o$/, '').replace(/\.bpf$/, ''));
  const own = ['Maps', 'Globals', 'GlobalsInput', 'LoadOptions', 'Shape', ''].map(suffix => name + suffix);
  const types = collection.btf && new TypeScriptTypes(collection.btf, own);
  const maps = [...collection.maps.values()].filter(spec => spec.dataSection === undefined);
  const progArrays = maps.filter(spec => spec.type === 'prog_array').map(spec => spec.name);
  const keyless = maps.filter(spec => spec.keySize === 0);
  const typed = maps.filter(spec => spec.type !== 'prog_array' && spec.keySize > 0);
  const mapLines = typed.map(
    spec => `${mapComment(spec)}  readonly ${property(spec.name)}: ${mapType(spec, types)};\n`,
  );
  const globals = [...globalVariables(collection).values()].map(variable => {
    const section = collection.maps.get(variable.map)!;
    const text = types!.text(variable.btfTypeId);
    const note = `  /** in ${comment(section.name)} at ${variable.offset}${variable.constant ? ': fixed once loaded' : ''} */\n`;
    return (of: keyof TypeText) => `${note}  readonly ${property(variable.name)}: ${text[of]};\n`;
  });
  const union = (names: readonly string[]) => (names.length === 0 ? 'never' : names.map(quoted).join(' | '));
  const constantName = `${name[0]!.toLowerCase()}${name.slice(1)}Object`;
  const parseOptions = collection.unsupported?.length ? '{ skipUnsupported: true, ' : '{ ';
  const interfaceText = (head: string, lines: readonly string[]) =>
    lines.length === 0 ? `export interface ${head} {}\n` : `export interface ${head} {\n${lines.join('')}}\n`;
  return `/**
 * Types and loader for ${comment(file)}. Written by \`switchyard codegen\`; do not change it, run that again.
 */
${bytes ? '' : "import { readFileSync } from 'node:fs';\n"}import {
  type LoadOptions,
  parseObject,
  type Runtime,
  ${mapLines.length > 0 ? 'type TypedMap,\n  ' : ''}TypedObject,
  withGlobals,
} from ${quoted(importFrom)};

${(types?.declarations ?? []).map(text => `${text}\n`).join('')}/** Maps with keys, by name.${keyless.length > 0 ? ` Those without are at \`object.map\`: ${comment(keyless.map(spec => spec.name).join(', '))}.` : ''} */
${interfaceText(`${name}Maps`, mapLines)}
/** Global variables, as they are read. */
${interfaceText(
  `${name}Globals`,
  globals.map(lines => lines('read')),
)}
/** Global variables, as they are set. */
${interfaceText(
  `${name}GlobalsInput`,
  globals.map(lines => lines('input')),
)}
export interface ${name}Shape {
  readonly programs: ${union([...collection.programs.keys()])};
  readonly progArrays: ${union(progArrays)};
  readonly maps: ${name}Maps;
  readonly globals: ${name}Globals;
  readonly globalInputs: ${name}GlobalsInput;
}

export interface ${name}LoadOptions extends LoadOptions {
  /** Initial values of global variables: those not named have the object's. */
  readonly globals?: Partial<${name}GlobalsInput>;
}

export class ${name} extends TypedObject<${name}Shape> {}

/** Loads the object into a runtime, all or nothing. Errors as \`Runtime.load\`; ObjectError for values that do not fit. */
export function load${name}(runtime: Runtime, options: ${name}LoadOptions = {}): ${name} {
  const { globals = {}, ...loadOptions } = options;
  const { targetBtf } = loadOptions;
  const collection = parseObject(${constantName}(), ${parseOptions}...(targetBtf && { targetBtf }) });
  return new ${name}(runtime.load(withGlobals(collection, { ...globals }), loadOptions));
}

/** The bytes of the object file. */
export function ${constantName}(): Uint8Array {
${bytes ? EMBEDDED : `  return readFileSync(new URL(${quoted(`./${file}`)}, import.meta.url));\n`}}
${bytes ? embedded(bytes) : ''}`;
}

const PER_CPU = new Set<MapType>(['percpu_array', 'percpu_hash', 'lru_percpu_hash']);
const OF_MAPS = new Set<MapType>(['array_of_maps', 'hash_of_maps']);
const LINE = 110;

const EMBEDDED = "  return Uint8Array.from(atob(OBJECT.join('')), character => character.charCodeAt(0));\n";

function embedded(bytes: Uint8Array): string {
  const text = btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(''));
  const lines = Array.from({ length: Math.ceil(text.length / LINE) }, (_, i) => text.slice(i * LINE, (i + 1) * LINE));
  return `\nconst OBJECT = [\n${lines.map(line => `  '${line}',\n`).join('')}];\n`;
}

function mapComment({ type, maxEntries, keySize, valueSize }: MapSpec): string {
  const entries = maxEntries === 1 ? '1 entry' : `${maxEntries} entries`;
  return `  /** ${type}, ${entries}; key ${plural(keySize, 'byte')}, value ${plural(valueSize, 'byte')} */\n`;
}

function mapType(spec: MapSpec, types: TypeScriptTypes | undefined): string {
  const key = textOf(types, spec.btfKeyId, spec.keySize);
  const value = OF_MAPS.has(spec.type)
    ? both(spec.inner ? `${mapType(spec.inner, types)} | undefined` : 'TypedMap | undefined')
    : textOf(types, spec.btfValueId, spec.valueSize);
  const [read, input] = PER_CPU.has(spec.type)
    ? [`${list(value.read)}`, `readonly ${list(value.input)}`]
    : [value.read, value.input];
  const texts = [key.read, read, key.input, input];
  if (texts[0] === texts[2] && (texts[1] === texts[3] || `readonly ${texts[1]}` === texts[3])) texts.length = 2;
  return `TypedMap<${texts.join(', ')}>`;
}

const both = (text: string): TypeText => ({ read: text, input: text });

/** What typed maps make of values without BTF. */
function textOf(types: TypeScriptTypes | undefined, id: number | undefined, size: number): TypeText {
  if (types && id) return types.text(id);
  return both(size === 4 ? 'number' : size === 8 ? 'bigint' : 'Uint8Array');
}
