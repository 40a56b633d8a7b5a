"""Revops: Odoo and ACE in one warehouse, extracted, checked, searchable and matched."""
