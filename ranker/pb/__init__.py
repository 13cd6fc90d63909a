"""The wire's generated code: `proto/ranker/pb/` written out by protoc, never edited by hand."""
