import { x64Platform } from './computer.ts';
import { tailCallSuite } from './suites/tail-call.ts';

tailCallSuite(x64Platform);
