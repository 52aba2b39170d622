"""Typed configuration: what can be set (`schema`), and how it is composed and checked (`compose`)."""
