"""What a paper needs from a comparison: tables, figures, the cohort, a methods section and a checklist, from the records."""
