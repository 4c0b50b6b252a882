/** `switchyard codegen`: writes the TypeScript module for an object. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { typescriptModule } from '../core.ts';
import { mentionUnsupported, readObject, writeBytes } from './files.ts';

export interface CodegenOptions {
  readonly output?: string;
  readonly name?: string;
  readonly import: string;
  readonly beside?: boolean;
  readonly btf?: string;
  readonly json?: boolean;
}

export function codegen(path: string, options: CodegenOptions): void {
  const { output, name, json } = options;
  const collection = readObject(path, options.btf);
  mentionUnsupported(collection);
  const text = typescriptModule(collection, {
    file: basename(path),
    ...(name !== undefined && { name }),
    bytes: options.beside ? undefined : readFileSync(path),
    importFrom: options.import,
  });
  if (output !== undefined) writeBytes(output, new TextEncoder().encode(text));
  if (json) console.log(JSON.stringify(output === undefined ? { text } : { output, bytes: text.length }));
  else if (output === undefined) process.stdout.write(text);
}
